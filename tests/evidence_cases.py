"""Recorded evidence as cases: folders with a case.json, read into a call of the public API."""

import base64
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cryptography import x509

from attestation import (
    AciEvidence,
    AzureVtpm,
    Collateral,
    DstackDocument,
    GpuEvidence,
    Kind,
    MaaEvidence,
    MalformedEvidence,
    NitroEvidence,
    NrasEvidence,
    Policy,
    Recognised,
    RimEvidence,
    Roots,
    SgxEvidence,
    SnpEvidence,
    TdxEvidence,
    TinfoilDocument,
    TpmQuotes,
    Verdict,
    recognise,
    verify,
)
from attestation.certificates import load_all
from attestation.importers.tinfoil import Tinfoil
from attestation.nras import NrasResponse
from attestation.nvidia.roots import DEVICE_ROOT
from attestation.pieces import Piece, identify
from attestation.roots import VENDORS as VENDOR_ROOTS
from attestation.vendor_collateral import collateral_in

POLICIES = Path(__file__).with_name("evidence_policies.toml")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "evidence"
VENDORS = {"gcp": "google"}
SUFFIXES = ("", "_hex", "_b64")
NONCES = tuple(f"expected_nonce{suffix}" for suffix in SUFFIXES)
BOUND = ("report_data", "user_data", "public_key")
READ = {"expected_client_nonce", "expected_issuer", *NONCES}
READ |= {f"expected_{name}{suffix}" for name in BOUND for suffix in SUFFIXES}
REPORT_DATA = {"snp", "tdx", "sgx", "azure-aci"}
KINDS: dict[str, tuple[type[Any], ...]] = {
    "snp": (SnpEvidence,),
    "tdx": (TdxEvidence,),
    "sgx": (SgxEvidence,),
    "nvidia-gpu": (GpuEvidence,),
    "nvidia-nvswitch": (GpuEvidence,),
    "nvidia-rim": (RimEvidence,),
    "nvidia-nras": (NrasEvidence,),
    "azure-snp-vtpm": (AzureVtpm,),
    "azure-tdx-vtpm": (AzureVtpm,),
    "azure-maa": (MaaEvidence,),
    "azure-aci": (AciEvidence,),
    "aws-nitro": (NitroEvidence,),
    "tpm": (TpmQuotes,),
    "composite": (TinfoilDocument, DstackDocument),
}
"""What the files of a case have to be, by TEE: parts of it, or something else, are not what it is about."""


@dataclass(frozen=True)
class Case:
    """A case folder. `expected` is for comparing; only its `at_time` is an input.

    `altered` holds contents to take in place of files.
    """

    folder: Path
    fields: Mapping[str, Any] = field(repr=False)
    bases: tuple[Path, ...]
    altered: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return str(self.fields.get("id", self.folder.name))

    @property
    def tee(self) -> str:
        return str(self.fields["tee"])

    @property
    def at(self) -> datetime:
        """The case's clock, in UTC if it has no offset; a case without one is judged now."""
        text = self.fields["expected"].get("at_time")
        found = datetime.fromisoformat(text) if text else datetime.now(UTC)
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    @property
    def files(self) -> dict[str, bytes]:
        names = self.fields.get("files") or [p.name for p in self.folder.iterdir() if p.name != "case.json"]
        return {name: self.altered.get(name) or (self.folder / name).read_bytes() for name in names}

    @property
    def other_inputs(self) -> dict[str, Any]:
        """What the case's verifier expects and `verify` takes no value for; claims can be compared."""
        inputs = self.fields.get("inputs") or {}
        return {name: value for name, value in inputs.items() if name not in READ}

    def find(self, path: str) -> Path | None:
        """`path` in the case's folder or, where shared files lie, under the first base that has it."""
        bases = self.bases if path.startswith("_") else (self.folder,)
        return next((base / path for base in bases if path and (base / path).exists()), None)


def cases(directory: Path) -> list[Case]:
    """The cases under `directory`, which may hold _roots and _collateral of its own."""
    bases = (directory, SHARED)
    paths = sorted(directory.rglob("case.json"))
    return [Case(path.parent, json.loads(path.read_text()), bases) for path in paths]


def judge(case: Case, change: Callable[[Policy], Policy] = lambda policy: policy) -> Verdict:
    """The public API's verdict on a case, under the policy for it after `change`; or MalformedEvidence."""
    found = _recognised(case)
    roots, among_roots = _roots(case)
    collateral = found.collateral.merged(among_roots).merged(_collateral(case))
    inputs = case.fields.get("inputs") or {}
    given = {name: value for name, value in _inputs(inputs).items() if value is not None}
    if case.tee in REPORT_DATA and "nonce" in given:  # a bare report has one place for it
        given.setdefault("report_data", given.pop("nonce").ljust(64, b"\0"))
    policy = policy_for(case.tee, _supplies(case, found, collateral, given), _numbers(found, inputs))
    judged_by = change(policy).with_roots(roots)
    return verify(found.evidence, collateral, judged_by, **({"nonce": None} | given), now=case.at)


def _recognised(case: Case) -> Recognised:
    """What the case's files hold; MalformedEvidence if that is not evidence of the case's TEE."""
    found = recognise(case.files)
    evidence = found.evidence
    if case.tee == "composite" and Piece.TINFOIL_REPORT in found.pieces.values():
        return found
    if case.tee == "composite" and isinstance(evidence, TdxEvidence):  # dstack without devices
        evidence = DstackDocument(quote=evidence.quote, event_log=evidence.event_log)
    if not isinstance(evidence, KINDS.get(case.tee, object)):
        raise MalformedEvidence(f"{type(evidence).__name__} where evidence of {case.tee} belongs")
    return replace(found, evidence=evidence)


def policy_for(tee: str, supplies: Iterable[str], numbers: Mapping[str, str]) -> Policy:
    """The policy of tests/evidence_policies.toml for a TEE and what comes with the evidence."""
    supplied = frozenset(supplies)
    entries = [
        item
        for item in _table()["policy"]
        if item["tee"] == tee and supplied.issuperset(item.get("supplies", ()))
    ]
    if not entries:
        raise LookupError(f"no policy for {tee} that supplies {sorted(supplied)}")
    entry = max(entries, key=lambda item: len(item.get("supplies", ())))
    shared = _table()["shared"]
    text = "".join([shared["head"], *(shared[name] for name in entry.get("use", ())), entry.get("then", "")])
    for name, value in numbers.items():
        text = text.replace(f"${name}", value)
    return Policy.from_toml(text)


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(POLICIES.read_text())


def _inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    nonce = next((_octets(inputs[name]) for name in NONCES if name in inputs), None)
    if "expected_client_nonce" in inputs:
        nonce = base64.b64decode(inputs["expected_client_nonce"])
    values = {"nonce": nonce}
    for name in BOUND:
        spelled = (f"expected_{name}{suffix}" for suffix in SUFFIXES)
        values[name] = next((_octets(inputs[name]) for name in spelled if name in inputs), None)
    if values["report_data"] is not None:
        values["report_data"] = values["report_data"].ljust(64, b"\0")
    return values


def _octets(text: str) -> bytes:
    """Hexadecimal, else base64, else the text itself."""
    for decode in (bytes.fromhex, partial(base64.b64decode, validate=True)):
        with suppress(ValueError):
            return decode(text.removeprefix("0x"))
    return text.encode()


def _supplies(case: Case, found: Recognised, collateral: Collateral, given: Mapping[str, Any]) -> set[str]:
    evidence, manifests = found.evidence, collateral.of(Kind.NVIDIA_RIM)
    quoted = isinstance(evidence, AzureVtpm) and evidence.quote is not None
    facts = {
        "nonce": "nonce" in given,
        "roots": bool(case.fields.get("roots")),
        "manifest": len(manifests) > 0,
        "manifests": len(manifests) > 1,
        "event-log": isinstance(evidence, TdxEvidence | TpmQuotes) and evidence.event_log is not None,
        "quote": quoted or (isinstance(evidence, TpmQuotes) and bool(evidence.quotes)),
        "gpus": "nvidia-gpu" in _devices(found),
        "switches": "nvidia-nvswitch" in _devices(found),
        "dstack": isinstance(evidence, DstackDocument),
    }
    return {name for name, holds in facts.items() if holds}


def _devices(found: Recognised) -> list[str]:
    """The kinds of the devices whose reports the case supplies."""
    match found.evidence:
        case GpuEvidence(devices=devices) | DstackDocument(devices=devices):
            pass
        case TinfoilDocument(document=document):
            devices = Tinfoil.from_json(document).devices
        case _:
            devices = ()
    return [device.tee for device in devices]


def _numbers(found: Recognised, inputs: Mapping[str, Any]) -> dict[str, str]:
    """How many devices the case supplies, and the issuer that its verifier expects."""
    kinds, tokens = _devices(found), 0
    if isinstance(found.evidence, NrasEvidence):
        tokens = len(NrasResponse.from_bytes(found.evidence.response).devices)
    return {
        "gpus": str(max(kinds.count("nvidia-gpu"), 1)),
        "switches": str(max(kinds.count("nvidia-nvswitch"), 1)),
        "devices": str(max(tokens, 1)),
        "issuer": str(inputs.get("expected_issuer", "https://unknown.invalid")),
    }


def _roots(case: Case) -> tuple[Roots, Collateral]:
    """The certificates that the case trusts, by vendor, and what else it lists among them.

    One that lists none is judged by the package's own.
    """
    anchors: dict[str, dict[str, x509.Certificate | bytes]] = {}
    others: dict[str, bytes] = {}
    for name in case.fields.get("roots") or ():
        path = case.find(name)
        if path is None:
            raise FileNotFoundError(name)
        kind, content = identify(path.read_bytes())
        if kind not in (Piece.CERTIFICATES, Piece.INTEL_CHAIN):
            others[name] = content
            continue
        folder = VENDORS.get(path.parent.name, path.parent.name)
        for index, item in enumerate(load_all(content)):
            stem = _stem(item.name) or (f"{path.stem}_{index}" if index else path.stem)
            for vendor in [folder] if folder in VENDOR_ROOTS else VENDOR_ROOTS:
                anchors.setdefault(vendor, {})[stem] = item.raw
    if not case.fields.get("roots"):
        return Roots.pinned(VENDOR_ROOTS), Collateral()
    return Roots(names=frozenset({"case"}), anchors=MappingProxyType(anchors), custom=True), (
        collateral_in(others) if others else Collateral()
    )


def _stem(name: str) -> str | None:
    """The stem under which an authority of this common name is looked for, whatever its file is called."""
    for start, end in (("ARK-", "ark"), ("SEV-VLEK-", "asvk"), ("SEV-", "ask")):
        if name.startswith(start):
            return f"{name.removeprefix(start).lower()}_{end}"
    return {"NVIDIA Device Identity CA": DEVICE_ROOT}.get(name)


def _collateral(case: Case) -> Collateral:
    """The collateral that the case refers to: files, folders, and what a folder's meta.json names."""
    files: dict[str, bytes] = {}
    pending = list(_strings(case.fields.get("collateral")))
    for name in pending:
        path = case.find(name)
        if path is None or path.name == "case.json":
            continue
        for item in sorted(path.iterdir()) if path.is_dir() else [path]:
            if item.name == "meta.json":
                pending.extend(_strings(json.loads(item.read_text())))
            else:
                files[str(item)] = item.read_bytes()
    return collateral_in(files) if files else Collateral()


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []
