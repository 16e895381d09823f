"""The report's bytes: what parses re-encodes to the same bytes; nothing but MalformedEvidence escapes."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import MalformedEvidence
from attestation.glossary import meaning
from attestation.snp import (
    Cpuid,
    GuestFlag,
    GuestPolicy,
    PlatformInfo,
    Product,
    SignerInfo,
    SnpReport,
    Tcb,
    read_table,
)

from .snp_cases import policy, verify
from .snp_maker import NOW, REPORT, STRICT, TURIN_TCB, line

RAW = REPORT.to_bytes()
V3 = replace(REPORT, version=3, launch_mit_vector=None, current_mit_vector=None).to_bytes()
V2 = replace(REPORT, version=2, cpuid=None, launch_mit_vector=None, current_mit_vector=None).to_bytes()
TURIN = replace(
    REPORT,
    cpuid=Cpuid(0x1A, 2, 1),
    current_tcb=TURIN_TCB,
    reported_tcb=TURIN_TCB,
    committed_tcb=TURIN_TCB,
    launch_tcb=TURIN_TCB,
).to_bytes()
SAMPLES = [RAW, V3, V2, TURIN]
RESERVED = {
    "04C": ([RAW, V3, V2, TURIN], range(0x4C, 0x50)),
    "cpuid in version 2": ([V2], range(0x188, 0x18B)),
    "18B": (SAMPLES, range(0x18B, 0x1A0)),
    "versions": (SAMPLES, (0x1EB, 0x1EF)),
    "mitigations before version 5": ([V2, V3], range(0x1F8, 0x208)),
    "208": (SAMPLES, range(0x208, 0x2A0)),
    "signature": (SAMPLES, range(0x330, 0x4A0, 7)),
    "tcb": ([RAW, V3, V2], (0x3A, 0x3D, 0x182, 0x1E5, 0x1F2)),
    "tcb of Turin": ([TURIN], (0x3C, 0x3E, 0x184, 0x1E6, 0x1F4)),
    "signer": (SAMPLES, (0x49, 0x4A, 0x4B)),
}


@pytest.mark.parametrize("raw", SAMPLES)
def test_a_report_re_encodes(raw: bytes) -> None:
    assert SnpReport.from_bytes(raw).to_bytes() == raw


@pytest.mark.parametrize(("samples", "offsets"), RESERVED.values(), ids=RESERVED)
def test_reserved_bytes_are_zero(samples: list[bytes], offsets: Any) -> None:
    for raw in samples:
        for offset in offsets:
            altered = bytearray(raw)
            altered[offset] = 0x80
            with pytest.raises(MalformedEvidence):
                SnpReport.from_bytes(bytes(altered))


@pytest.mark.parametrize("version", [0, 1, 6, 0x80000002])
def test_unknown_versions_are_refused(version: int) -> None:
    with pytest.raises(MalformedEvidence, match="version"):
        SnpReport.from_bytes(version.to_bytes(4, "little") + RAW[4:])


@pytest.mark.parametrize("size", [0, 793, 1183, 1185])
def test_other_lengths_are_refused(size: int) -> None:
    with pytest.raises(MalformedEvidence, match=f"{size} bytes"):
        SnpReport.from_bytes(RAW.ljust(size, b"\0")[:size])


MUTATIONS = st.lists(st.tuples(st.integers(0, 1183), st.integers(0, 255)), max_size=8)


@given(st.sampled_from(SAMPLES), MUTATIONS)
def test_what_parses_re_encodes(raw: bytes, mutations: list[tuple[int, int]]) -> None:
    altered = bytearray(raw)
    for offset, value in mutations:
        altered[offset] = value
    try:
        report = SnpReport.from_bytes(bytes(altered))
    except MalformedEvidence:
        return
    assert report.to_bytes() == altered
    assert SnpReport.from_bytes(report.to_bytes()) == report


@given(st.binary(max_size=1300))
def test_arbitrary_bytes_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        SnpReport.from_bytes(raw)


@given(st.binary(max_size=200))
def test_arbitrary_tables_parse_or_are_malformed(raw: bytes) -> None:
    with suppress(MalformedEvidence):
        assert read_table(raw) == read_table(raw + b"after")


@given(st.sampled_from(SAMPLES), MUTATIONS, MUTATIONS)
def test_verification_is_total(raw: bytes, of_report: list[Any], of_certificate: list[Any]) -> None:
    genoa = line()
    report, certificate = bytearray(raw), bytearray(genoa.vcek(serial=5).der)
    for target, mutations in ((report, of_report), (certificate, of_certificate)):
        for offset, value in mutations:
            target[offset % len(target)] = value
    try:
        _, verdict = verify(bytes(report), [bytes(certificate)], policy(genoa.roots(), **STRICT), NOW)
    except MalformedEvidence:
        return
    assert not verdict.accepted


@given(st.lists(st.binary(max_size=300), max_size=3))
def test_arbitrary_endorsements_give_a_sheet_or_are_malformed(endorsements: list[bytes]) -> None:
    try:
        _, verdict = verify(RAW, endorsements, policy(line().roots(), **STRICT), NOW)
    except MalformedEvidence:
        return
    assert not verdict.accepted


@given(st.integers(0, 2**64 - 1))
def test_every_guest_policy_and_platform_value_survives(value: int) -> None:
    assert GuestPolicy.from_int(value).to_int() == value
    assert int(PlatformInfo(value)) == value
    assert PlatformInfo(value).unknown == value & ~0xFF


@pytest.mark.parametrize("words", [GuestFlag, PlatformInfo])
def test_words_that_evidence_chooses_are_not_kept(words: type[GuestFlag | PlatformInfo]) -> None:
    before = len(words._value2member_map_)
    for value in range(1 << 40, (1 << 40) + 4096):
        assert words(value) == value
    assert len(words._value2member_map_) <= before + len(words) ** 2


@given(st.integers(0, 2**32 - 1))
def test_signer_info_survives_or_is_malformed(value: int) -> None:
    try:
        assert SignerInfo.from_int(value).to_int() == value
    except MalformedEvidence:
        assert value > 0x1F or value >> 2 in range(2, 7)


@given(st.binary(min_size=8, max_size=8), st.booleans())
def test_tcb_versions_survive_or_are_malformed(raw: bytes, fmc: bool) -> None:
    try:
        assert Tcb.from_bytes(raw, fmc=fmc).to_bytes() == raw
    except MalformedEvidence:
        assert any(raw[2:7])


def test_the_guest_policy_needs_bit_17() -> None:
    assert GuestPolicy.from_int(0x20000).well_formed
    assert not GuestPolicy.from_int(0).well_formed
    assert GuestFlag.DEBUG in GuestPolicy.from_int(0xB0000).flags


@pytest.mark.parametrize(
    ("cpuid", "product"),
    [
        (Cpuid(0x19, 0x01, 1), Product.MILAN),
        (Cpuid(0x19, 0x11, 1), Product.GENOA),
        (Cpuid(0x19, 0xA0, 2), Product.GENOA),
        (Cpuid(0x1A, 0x02, 1), Product.TURIN),
        (Cpuid(0x1A, 0x11, 0), Product.TURIN),
        (Cpuid(0x19, 0x21, 0), None),
        (Cpuid(0x17, 0x31, 0), None),
        (Cpuid(0x1A, 0x50, 0), None),
    ],
)
def test_product_lines_by_cpuid(cpuid: Cpuid, product: Product | None) -> None:
    assert cpuid.product is product


def test_the_parts_of_a_tcb_version_are_told_as_such() -> None:
    """TEE is the secure processor's operating system there, not a kind of hardware."""
    assert "operating system" in meaning("report.current_tcb.tee")
    assert meaning("report.launch_tcb.snp") == "security version of the SNP firmware"
    assert meaning("cpu.tee") == meaning("devices[0].tee") == "the kind of hardware"
    assert meaning("report.current_tcb") != ""
