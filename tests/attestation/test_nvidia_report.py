"""SPDM reports: what parses re-encodes to the same bytes, all else is MalformedEvidence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import MalformedEvidence
from attestation.nvidia import GpuReport, Measurement, MeasurementsRequest, OpaqueData, OpaqueType
from attestation.nvidia.report import _alike, _blocks

from .nvidia import case, cases

NAMES = [name for group in ("nvidia-gpu", "nvidia-nvswitch") for name in cases(group)]
SINGLE = [name for name in NAMES if "report.bin" in case(name).files]
GENUINE = case("nvidia-gpu/h100-590-ppcie").report

blocks = st.lists(
    st.builds(
        Measurement,
        index=st.integers(0, 255),
        kind=st.integers(0, 255),
        value=st.binary(max_size=80),
    ),
    max_size=8,
    unique_by=lambda block: block.index,
).map(tuple)
opaque = st.dictionaries(st.integers(100, 0xFFFF), st.binary(max_size=40), max_size=6).map(
    lambda table: OpaqueData.of(table.items())
)
octet = st.integers(0, 255)
reports = st.builds(
    GpuReport,
    request=st.builds(
        MeasurementsRequest,
        nonce=st.binary(min_size=32, max_size=32),
        attributes=octet,
        operation=octet,
        slot=octet,
    ),
    measurement_record=blocks.map(lambda listed: b"".join(block.to_bytes() for block in listed)),
    responder_nonce=st.binary(min_size=32, max_size=32),
    opaque=opaque,
    signature=st.binary(min_size=96, max_size=96),
    param1=octet,
    param2=octet,
    trailer=st.sampled_from([b"", b"\0"]),
)


@pytest.mark.parametrize("name", SINGLE)
def test_a_genuine_report_re_encodes_to_the_same_bytes(name: str) -> None:
    raw = case(name).report
    assert GpuReport.from_bytes(raw).to_bytes() == raw


@given(blocks, st.integers(0, 80), st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_blocks_compared_at_once_are_those_walked_one_by_one(
    blocks: tuple[Measurement, ...], size: int, place: int, bit: int
) -> None:
    record = b"".join(block._replace(value=bytes(size)).to_bytes() for block in blocks)
    assert _alike(record) == len(_blocks(record)) == len(blocks)
    broken = bytearray(record)
    if broken:
        broken[place % len(record)] ^= 1 << bit
    try:
        walked = len(_blocks(bytes(broken)))
    except MalformedEvidence:
        walked = 0
    assert _alike(bytes(broken)) in (0, walked)


@given(reports)
def test_every_report_survives_encoding(report: GpuReport) -> None:
    assert GpuReport.from_bytes(report.to_bytes()) == report


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_malformed_or_re_encode(raw: bytes) -> None:
    try:
        parsed = GpuReport.from_bytes(raw)
    except MalformedEvidence:
        return
    assert parsed.to_bytes() == raw


@given(st.data())
def test_a_changed_report_is_malformed_or_re_encodes(data: st.DataObject) -> None:
    raw = bytearray(GENUINE)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(octet)
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw))) :]
    try:
        parsed = GpuReport.from_bytes(bytes(raw))
    except MalformedEvidence:
        return
    assert parsed.to_bytes() == bytes(raw)


@pytest.mark.parametrize("size", [0, 1, 36, 37, 44, 100, len(GENUINE) - 1])
def test_a_report_cut_short_is_malformed(size: int) -> None:
    with pytest.raises(MalformedEvidence):
        GpuReport.from_bytes(GENUINE[:size])


def test_the_signature_covers_all_but_its_own_96_bytes() -> None:
    assert GpuReport.from_bytes(GENUINE).signed == GENUINE[:-96]


def test_one_nul_after_the_signature_is_kept_and_not_signed() -> None:
    report = GpuReport.from_bytes(GENUINE + b"\0")
    assert (report.trailer, report.signed) == (b"\0", GENUINE[:-96])


@pytest.mark.parametrize("trailer", [b"\1", b"\0\0", b"more"])
def test_anything_else_after_the_signature_is_malformed(trailer: bytes) -> None:
    with pytest.raises(MalformedEvidence, match="follow the signature"):
        GpuReport.from_bytes(GENUINE + trailer)


@pytest.mark.parametrize(
    ("offset", "value", "why"),
    [
        (0, 0x12, "GET_MEASUREMENTS"),
        (1, 0xE1, "GET_MEASUREMENTS"),
        (37, 0x12, "MEASUREMENTS"),
        (38, 0x61, "MEASUREMENTS"),
        (41, 63, "64 measurement blocks, not 63"),
        (42, 0xFF, "header|form"),
        (46, 2, "not of DMTF's form"),
        (47, 50, "not of DMTF's form"),
        (45 + 55, 1, "occurs twice"),
    ],
)
def test_a_wrong_header_field_is_malformed(offset: int, value: int, why: str) -> None:
    raw = bytearray(GENUINE)
    raw[offset] = value
    with pytest.raises(MalformedEvidence, match=why):
        GpuReport.from_bytes(bytes(raw))


def test_an_oversized_report_is_malformed() -> None:
    with pytest.raises(MalformedEvidence, match="exceeds"):
        GpuReport.from_bytes(bytes(70_000))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (OpaqueType.DRIVER_VERSION, b"\xff"),
        (OpaqueType.DRIVER_VERSION, b"550\0.1"),
        (OpaqueType.PROJECT, b"x" * 65),
        (OpaqueType.VBIOS_VERSION, bytes.fromhex("005e009601000001")),
        (OpaqueType.NVDEC0_STATUS, b""),
        (OpaqueType.PROTECTED_PCIE_STATUS, b"\x55\x55"),
        (OpaqueType.FWID, bytes(32)),
        (OpaqueType.FEATURE_FLAG, b"\0"),
        (OpaqueType.SWITCH_PDI, bytes(9)),
        (OpaqueType.SWITCH_GPU_PDIS, bytes(63)),
    ],
)
def test_a_named_opaque_field_of_another_form_is_malformed(kind: OpaqueType, value: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        OpaqueData.from_bytes(OpaqueData.of([(kind, value)]).to_bytes())


def test_a_repeated_opaque_field_is_malformed() -> None:
    with pytest.raises(MalformedEvidence, match="twice"):
        OpaqueData.from_bytes(OpaqueData.of([(11, b"\x55"), (11, b"\xaa")]).to_bytes())


def test_versions_read_as_the_vendor_writes_them() -> None:
    gpu = OpaqueData.of([(OpaqueType.VBIOS_VERSION, bytes.fromhex("005e009601000000"))])
    switch = OpaqueData.of([(OpaqueType.VBIOS_VERSION, b"96.10.55.00.01")])
    assert (gpu.vbios_version, switch.vbios_version) == ("96.00.5E.00.01", "96.10.55.00.01")


def test_a_gpu_and_its_switch_name_the_switch_alike() -> None:
    gpu = GpuReport.from_bytes(case("nvidia-gpu/fail-signature").report).opaque
    switch = GpuReport.from_bytes(case("nvidia-nvswitch/ls10-full-rim-match").report).opaque
    assert len(gpu.switch_pdis) == 4
    assert switch.device_pdi in gpu.switch_pdis
