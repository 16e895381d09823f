"""Tinfoil's attestation document, version 3: one CPU report over channel keys, nonce and devices.

    report_data = SHA-256(tls_key_fp || hpke_key || nonce [|| gpu_evidence_hash [|| nvswitch_evidence_hash]])

then 32 zero bytes. An evidence hash is SHA-256 of the JSON member as sent. The document is also
signed with the TLS key; that adds nothing to the hash that the hardware signs, and is not judged.
"""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..certificates import load
from ..context import Context
from ..encoding import strict_json
from ..errors import MalformedEvidence
from ..evidence import DeviceEvidence
from ..expected import Expected
from ..sources import TinfoilDocument
from ..standalone import DEVICE_SECTIONS, GPU, SWITCH, appraise_devices
from ..values import string
from ..verdict import Sheet
from .checks import CompositeCheck as Check
from .members import base64_bytes, devices, hex_bytes, members

FORMAT = "https://tinfoil.sh/predicate/attestation/v3"
REPORT_FORMATS = {
    "https://tinfoil.sh/predicate/sev-snp-guest/v1",
    "https://tinfoil.sh/predicate/sev-snp-guest/v2",
    "https://tinfoil.sh/predicate/tdx-guest/v1",
    "https://tinfoil.sh/predicate/tdx-guest/v2",
}
"""Earlier formats: a report or quote, over TLS and HPKE key, without a nonce."""
NAME = "tinfoil-v3"
MAX_DOCUMENT = 4 * 1024 * 1024
MAX_REPORT = 64 * 1024
PLATFORMS = {"sev-snp": "snp", "tdx": "tdx"}
_GZIP = b"\x1f\x8b"
_PARTS = ("tls_key_fp", "hpke_key", "nonce")
_HASHES = {GPU: "gpu_evidence_hash", SWITCH: "nvswitch_evidence_hash"}
_MEMBERS = {GPU: "gpu", SWITCH: "nvswitch"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tinfoil:
    """The document's parts. Parsed, not verified. `parts`: 32 bytes each, in the order of hashing.

    `sent` holds the device members as they stand in the document, by device TEE.
    """

    parts: Mapping[str, bytes]
    platform: str
    report: bytes
    certificate: bytes
    devices: tuple[DeviceEvidence, ...]
    sent: Mapping[str, bytes]

    @classmethod
    def from_json(cls, raw: bytes) -> Self:
        """The document in `raw`; MalformedEvidence for anything that is not of the format."""
        value, spans = members(raw, MAX_DOCUMENT)
        if value.get("format") != FORMAT or "body" in value:
            raise MalformedEvidence(f"not a {FORMAT} document")
        cpu, bound = _table(value, "cpu"), _table(value, "report_data")
        names = [name for name in (*_PARTS, *_HASHES.values()) if name in bound]
        if not {*_PARTS} <= bound.keys() or bound.keys() != {*names}:
            raise MalformedEvidence(f"report_data holds {sorted(bound)}")
        platform = string(cpu.get("platform"))
        if platform not in PLATFORMS:
            raise MalformedEvidence(f"platform {platform!r:.40}")
        kinds = [kind for kind, name in _MEMBERS.items() if name in value]
        return cls(
            parts={name: hex_bytes(bound[name], name, 32) for name in names},
            platform=platform,
            report=base64_bytes(cpu.get("report"), "the CPU report"),
            certificate=string(value.get("certificate")).encode(),
            devices=tuple(item for kind in kinds for item in devices(value[_MEMBERS[kind]], kind)),
            sent={kind: spans[_MEMBERS[kind]] for kind in kinds},
        )

    @property
    def report_data(self) -> bytes:
        """What the CPU report must carry, 64 bytes."""
        return hashlib.sha256(b"".join(self.parts.values())).digest().ljust(64, b"\0")

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that a policy needs to judge this document."""
        kinds = sorted({DEVICE_SECTIONS[item.tee] for item in self.devices})
        return ("composite", PLATFORMS[self.platform], *kinds)


def report(raw: bytes) -> bytes:
    """The report or quote in a document of an earlier format, which may be compressed; MalformedEvidence."""
    value = strict_json(raw, limit=MAX_DOCUMENT)
    body = base64_bytes(value.get("body") if isinstance(value, dict) else None, "the body")
    if body[:2] != _GZIP:
        return body
    try:
        found = (stream := zlib.decompressobj(wbits=31)).decompress(body, MAX_REPORT)
    except zlib.error:
        raise MalformedEvidence("the body is not compressed as it claims") from None
    if not stream.eof or stream.unused_data:
        raise MalformedEvidence(f"the body is cut off, or of more than {MAX_REPORT} bytes")
    return found


def sections(evidence: TinfoilDocument) -> tuple[str, ...]:
    """The sections that a policy needs to judge `evidence`; MalformedEvidence."""
    return Tinfoil.from_json(evidence.document).sections


def appraise(evidence: TinfoilDocument, context: Context, expected: Expected) -> list[Sheet]:
    """The sheets of a document, its CPU and its devices. Raises MalformedEvidence.

    1. it is of a listed format, and answers the verifier's nonce;  2. its certificate and the key
    that the verifier talks to are the bound ones;  3. device evidence is what the CPU report commits
    to, and answers the same nonce;  4. the CPU report is genuine and commits to all of it.
    """
    parsed = Tinfoil.from_json(evidence.document)
    rules = context.policy.composite
    required = {Check.FORMAT, Check.NONCE, Check.CERTIFICATE}
    required |= {Check.CHANNEL_KEY} if expected.public_key is not None else set()
    sheet = Sheet("document", required)
    sheet.claims["report_data_parts"] = {name: part.hex() for name, part in parsed.parts.items()}
    listed = rules is not None and NAME in rules.formats
    sheet.record(Check.FORMAT, listed, NAME, ", ".join(sorted(rules.formats)) if rules else "none")  # 1
    check_nonce(sheet, parsed.parts["nonce"], expected)
    _check_keys(sheet, parsed, expected)  # 2
    if parsed.sent or any(name in parsed.parts for name in _HASHES.values()):
        _check_bound(sheet, parsed, rules is not None and rules.allow_unbound_devices)  # 3
    sheets = [sheet, _cpu(parsed, evidence.endorsements, context)]  # 4
    if parsed.devices or context.policy.nvidia_gpu or context.policy.nvidia_switch:
        nonces = [parsed.parts["nonce"]] * len(parsed.devices)
        sheets += appraise_devices(parsed.devices, context, nonces)
    return sheets


def check_nonce(sheet: Sheet, found: bytes, expected: Expected) -> None:
    """Record NONCE: the document answers the verifier's nonce."""
    if expected.nonce is None:
        sheet.unevaluable(Check.NONCE, "the verifier gave no nonce", "32 bytes chosen by the verifier")
    else:
        sheet.equal(Check.NONCE, found, expected.nonce)


def _check_keys(sheet: Sheet, parsed: Tinfoil, expected: Expected) -> None:
    fingerprint = hashlib.sha256(load(parsed.certificate).spki).digest()
    sheet.equal(Check.CERTIFICATE, fingerprint, parsed.parts["tls_key_fp"])
    if expected.public_key is not None:
        keys = [parsed.parts["tls_key_fp"], parsed.parts["hpke_key"]]
        listed = ", ".join(key.hex() for key in keys)
        sheet.record(Check.CHANNEL_KEY, expected.public_key in keys, expected.public_key.hex(), listed)


def _check_bound(sheet: Sheet, parsed: Tinfoil, allow_unbound: bool) -> None:
    """Record DEVICES_BOUND: what the report commits to is there, and what is there is committed to."""
    wrong, unbound = [], []
    for kind, name in _HASHES.items():
        sent, hashed = parsed.sent.get(kind), parsed.parts.get(name)
        if hashed is None:
            unbound += [_MEMBERS[kind]] if sent is not None else []
        elif hashlib.sha256(sent).digest() != hashed if sent is not None else any(hashed):
            wrong.append(_MEMBERS[kind])
    found = f"differs: {', '.join(wrong)}" if wrong else f"not bound: {', '.join(unbound) or 'none'}"
    passed = not wrong and (allow_unbound or not unbound)
    sheet.record(Check.DEVICES_BOUND, passed, found, "the hash of every device member in report_data")


def _cpu(parsed: Tinfoil, endorsements: tuple[bytes, ...], context: Context) -> Sheet:
    bound = parsed.report_data
    if parsed.platform == "tdx":
        from .. import tdx

        return tdx.appraise(parsed.report, context, subject="cpu0", report_data=bound)
    from .. import snp

    return snp.appraise(parsed.report, endorsements, context, subject="cpu0", report_data=bound)


def _table(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    if not isinstance(found, dict):
        raise MalformedEvidence(f"{name} is not an object")
    return found
