"""Each byte of what is signed, changed once: never accepted."""

import pytest

from attestation import Kind, MalformedEvidence, tdx
from attestation.dcap.quote import Quote

from .tdx_cases import Case, load, tdx_rules, verdict

CASE = "tdx/v5-uptodate"


def accepted(case: Case, quote: bytes, **items: tuple[bytes, ...]) -> bool:
    try:
        sheet = tdx.appraise(quote, case.context(tdx_rules(), **items), subject="cpu0", report_data=None)
    except MalformedEvidence:
        return False
    return verdict(sheet, case.now).accepted


def flips(raw: bytes, start: int, end: int) -> list[tuple[int, bytes]]:
    found = []
    for at in range(start, end):
        changed = bytearray(raw)
        changed[at] ^= 1
        found.append((at, bytes(changed)))
    return found


def test_every_byte_of_the_quote() -> None:
    """Header, body, signatures, attestation key, QE report, auth data, certificates."""
    case = load(CASE)
    raw = case.quote
    end = len(raw) - len(Quote.from_bytes(raw).padding)
    assert accepted(case, raw)
    survivors = [at for at, changed in flips(raw, 0, end) if accepted(case, changed)]
    assert survivors == []


@pytest.mark.parametrize(
    "kind", [Kind.INTEL_TCB_INFO, Kind.INTEL_QE_IDENTITY, Kind.INTEL_PCK_CRL, Kind.INTEL_ROOT_CRL]
)
def test_every_byte_of_the_collateral(kind: Kind) -> None:
    case = load(CASE)
    (raw,) = case.collateral.of(kind)
    end = len(raw.rstrip())
    survivors = [
        at for at, changed in flips(raw, 0, end) if accepted(case, case.quote, **{kind.name: (changed,)})
    ]
    assert survivors == []


def test_every_byte_of_the_signing_certificate() -> None:
    """Only the leaf of the signing chain is read; its issuer is the pinned root."""
    case = load(CASE)
    (raw,) = case.collateral.of(Kind.INTEL_TCB_SIGNING_CHAIN)
    start, end = raw.index(b"\n") + 1, raw.index(b"\n-----END")
    survivors = [
        at
        for at, changed in flips(raw, start, end)
        if accepted(case, case.quote, INTEL_TCB_SIGNING_CHAIN=(changed,))
    ]
    assert survivors == []
