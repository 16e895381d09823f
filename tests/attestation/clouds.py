"""Shared by the tests of TPM, Nitro, Azure and NRAS evidence: cases, contexts, a small PKI, mutations."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import strategies as st

from attestation.checks import CheckId
from attestation.collateral import Collateral, Kind
from attestation.context import Context
from attestation.errors import MalformedEvidence
from attestation.policy import Policy
from attestation.roots import Roots
from attestation.section import Section
from attestation.verdict import Outcome, Sheet, Verdict
from tests.shared import shared

NOW = datetime(2026, 1, 15, tzinfo=UTC)
T = TypeVar("T")
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Case:
    """One case of ../shared/evidence."""

    folder: Path
    fields: Mapping[str, Any]

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.fields["expected"]["at_time"])

    @property
    def claims(self) -> dict[str, Any]:
        return dict(self.fields["expected"].get("claims", {}))

    @property
    def passes(self) -> bool:
        return bool(self.fields["expected"]["verdict"] == "pass")

    def input(self, name: str) -> Any:
        return self.fields.get("inputs", {}).get(name)

    def read(self, name: str) -> bytes | None:
        path = self.folder / name
        return path.read_bytes() if path.exists() else None

    def must(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def case(name: str) -> Case:
    """The case `group/name`."""
    folder = shared("evidence", name)
    return Case(folder, json.loads((folder / "case.json").read_text()))


def context(
    at: datetime,
    *,
    roots: Roots | Iterable[str] = ("amd", "aws", "azure", "google", "intel"),
    collateral: Mapping[Kind, tuple[bytes, ...]] | None = None,
    **sections: Any,
) -> Context:
    """A context whose policy has only roots and the given TEE sections."""
    chosen = roots if isinstance(roots, Roots) else Roots.pinned(roots)
    policy = cast(Policy, SimpleNamespace(roots=chosen, **{"snp": None, "tdx": None, **sections}))
    return Context(policy=policy, collateral=Collateral(collateral or {}), now=at)


def custom_roots(vendor: str, *certificates: x509.Certificate) -> Roots:
    """Roots of one vendor."""
    anchors = {f"root{index}": certificate for index, certificate in enumerate(certificates)}
    return Roots(names=frozenset({"test"}), anchors={vendor: anchors}, custom=True)


def parse(policy: Any, **keys: Any) -> Any:
    """A policy section out of keys, every one of which it must know."""
    section = Section("section", keys)
    parsed = policy.parse(section)
    section.close()
    return parsed


def verdict(*sheets: Sheet) -> Verdict:
    """The verdict over `sheets`."""
    return Verdict.of(sheets, at=NOW)


def accepted(*sheets: Sheet) -> bool:
    """Whether `sheets` alone would be accepted."""
    return verdict(*sheets).accepted


def blocking(*sheets: Sheet) -> set[CheckId]:
    """The checks that keep `sheets` from being accepted."""
    return {result.check for result in verdict(*sheets).blocking()}


def outcome(sheet: Sheet, check: CheckId) -> Outcome:
    """How `check` ended."""
    return next(result.outcome for result in sheet.results() if result.check == check)


def established(*sheets: Sheet) -> dict[str, Any]:
    """The claims of all sheets; the first sheet's win."""
    merged: dict[str, Any] = {}
    for sheet in reversed(sheets):
        merged |= sheet.claims
    return merged


def missing_claims(expected: Case, *sheets: Sheet) -> dict[str, Any]:
    """The case's claims that the sheets do not state equally."""
    found = established(*sheets)
    return {
        name: (value, found.get(name)) for name, value in expected.claims.items() if found.get(name) != value
    }


def issue(
    name: str,
    key: Any,
    issuer: tuple[x509.Name, Key] | None = None,
    *,
    authority: bool = False,
    signs: bool = True,
    usages: tuple[str, ...] = (),
    path_length: int | None = None,
    critical: bool = False,
    start: datetime = NOW - timedelta(days=1),
    days: int = 2,
) -> x509.Certificate:
    """A certificate for `key`, issued by `issuer` or by itself. `critical` adds an extension nobody knows."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    by, signer = issuer or (subject, key)
    usage = x509.KeyUsage(
        signs and not authority, False, False, False, False, authority, authority, False, False
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(authority, path_length), critical=True)
        .add_extension(usage, critical=True)
    )
    if usages:
        oids = [x509.ObjectIdentifier(item) for item in usages]
        builder = builder.add_extension(x509.ExtendedKeyUsage(oids), critical=False)
    if critical:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
        builder = builder.add_extension(unknown, critical=True)
    return builder.sign(signer, hashes.SHA384())


def der(certificate: x509.Certificate) -> bytes:
    """The certificate's bytes."""
    return certificate.public_bytes(serialization.Encoding.DER)


def flipped(raw: bytes, index: int) -> bytes:
    """`raw` with one bit of one byte changed, the bit varying with the place."""
    changed = bytearray(raw)
    changed[index] ^= 1 << index % 8
    return bytes(changed)


@st.composite
def mutated(draw: st.DrawFn, raw: bytes) -> bytes:
    """`raw` after a few edits: bytes replaced, removed, inserted, the end cut."""
    data = bytearray(raw)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.integers(0, 3)):
            case 0 if data:
                data[place] = draw(st.integers(0, 255))
            case 1:
                del data[place : place + draw(st.integers(1, 8))]
            case 2:
                data[place:place] = draw(st.binary(min_size=1, max_size=8))
            case 3:
                del data[place:]
    return bytes(data)


def parses(read: Callable[[bytes], T], raw: bytes) -> T | None:
    """What `read` makes of `raw`; None if it is malformed. Anything else escapes."""
    try:
        return read(raw)
    except MalformedEvidence:
        return None
