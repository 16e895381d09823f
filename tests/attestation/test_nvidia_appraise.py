"""Each check on a GPU's report: one device that passes it, and one that differs as little as can be."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import MalformedEvidence, PolicyError
from attestation.nvidia import GpuReport, MeasurementsRequest, NvidiaCheck, appraise
from attestation.nvidia.tcb_info import COMPOSITE_DEVICE_ID, DICE_TCB_INFO, TcbInfo
from attestation.verdict import Outcome

from .nvidia import accepted, case, context, failures, outcome, policy, result
from .nvidia_judge import DEVICE, GENUINE, genuine, judge
from .nvidia_maker import FWID, NONCE, NOW, Device, composite_device_id, dice_tcb_info


def test_a_device_in_order_is_accepted() -> None:
    assert accepted(judge(), at=NOW)
    assert accepted(genuine(), at=GENUINE.at)


def test_every_byte_of_the_signed_region_counts() -> None:
    raw = bytearray(GENUINE.report)
    malformed = 0
    for offset in range(len(raw) - 96):
        raw[offset] ^= 1 << (offset % 8)
        try:
            assert outcome(genuine(bytes(raw)), "nvidia.report-signature") is Outcome.FAIL, offset
        except MalformedEvidence:
            malformed += 1
        raw[offset] ^= 1 << (offset % 8)
    assert bytes(raw) == GENUINE.report
    assert malformed < 600


@pytest.mark.parametrize("offset", range(-96, 0, 5))
def test_an_altered_signature_fails(offset: int) -> None:
    raw = bytearray(GENUINE.report)
    raw[offset] ^= 1
    assert failures(genuine(bytes(raw))) == ["nvidia.report-signature"]


@pytest.mark.parametrize("signature", [bytes(96), b"\xff" * 96, bytes(95) + b"\1"])
def test_a_degenerate_signature_fails(signature: bytes) -> None:
    raw = GENUINE.report[:-96] + signature
    assert failures(genuine(raw)) == ["nvidia.report-signature"]


def test_another_devices_chain_fails_signature_and_fwid() -> None:
    other = case("nvidia-gpu/h100-580-coco-trailing-byte").chain
    assert failures(genuine(chain=other)) == ["nvidia.report-signature", "nvidia.fwid"]


def test_another_nonce_fails_and_none_is_unevaluable() -> None:
    assert failures(judge(nonce=bytes(32))) == ["nvidia.nonce"]
    assert failures(judge(nonce=NONCE[:31])) == ["nvidia.nonce"]
    sheet = judge(nonce=None)
    assert outcome(sheet, "nvidia.nonce") is Outcome.UNEVALUABLE
    assert not accepted(sheet, at=NOW)


@pytest.mark.parametrize("change", [{"attributes": 0}, {"operation": 0}, {"operation": 1}, {"slot": 1}])
def test_an_answer_to_another_request_fails(change: dict[str, int]) -> None:
    made = GpuReport.from_bytes(DEVICE.report())
    request = MeasurementsRequest(nonce=NONCE, **change)
    raw = DEVICE.sign(request, made.measurements, made.opaque)
    assert failures(judge(raw)) == ["nvidia.request"]


# Firmware.


def test_another_fwid_fails() -> None:
    assert failures(judge(DEVICE.report(FWID=bytes(48)))) == ["nvidia.fwid"]
    assert failures(judge(device=Device(dice_tcb_info(bytes(48))))) == ["nvidia.fwid"]
    assert failures(judge(device=Device(dice_tcb_info()))) == ["nvidia.fwid"]


def test_the_first_of_several_fwids_counts() -> None:
    assert accepted(judge(device=Device(dice_tcb_info(FWID, bytes(48)))), at=NOW)
    assert failures(judge(device=Device(dice_tcb_info(bytes(48), FWID)))) == ["nvidia.fwid"]


def test_the_older_form_of_fwid_counts_as_well() -> None:
    assert accepted(judge(device=Device(composite_device_id())), at=NOW)
    assert failures(judge(device=Device(composite_device_id(bytes(48))))) == ["nvidia.fwid"]


def test_a_missing_fwid_needs_the_policys_word() -> None:
    raw = DEVICE.report(FWID=None)
    assert accepted(judge(raw, allow_missing_fwid=True), at=NOW)
    sheet = judge(raw, allow_missing_fwid=False)
    assert outcome(sheet, "nvidia.fwid") is Outcome.UNEVALUABLE
    assert not accepted(sheet, at=NOW)


@pytest.mark.parametrize(("bit", "name"), [(1, "notSecure"), (2, "recovery"), (3, "debug")])
def test_firmware_in_an_unsafe_state_fails(bit: int, name: str) -> None:
    flags = (0x80 >> bit).to_bytes(1, "big") + b"\0\0\1"
    device = Device(dice_tcb_info(FWID, flags=flags))
    sheet = judge(device=device)
    assert failures(sheet) == ["nvidia.tcb-flags"]
    assert result(sheet, "nvidia.tcb-flags").found == name
    assert accepted(judge(device=device, allow_debug=True), at=NOW)


def test_other_flags_pass() -> None:
    assert accepted(judge(device=Device(dice_tcb_info(FWID, flags=b"\x80\0\0\1"))), at=NOW)


@pytest.mark.parametrize(
    "value",
    [b"", b"\x30", b"\x30\x05\xa6", b"\x31\x00", b"\x30\x82\x00\x01\x00", b"\x30\x00\x00", b"\x3f\x01"],
)
def test_a_tcb_info_that_is_not_der_is_malformed(value: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        judge(device=Device(("2.23.133.5.4.1.1", value)))
    with pytest.raises(MalformedEvidence):
        judge(device=Device(("2.23.133.5.4.1", value)))


@given(st.binary(max_size=60))
def test_any_tcb_info_is_judged_or_malformed(value: bytes) -> None:
    for oid in (DICE_TCB_INFO, COMPOSITE_DEVICE_ID):
        try:
            TcbInfo.from_der(oid, value)
        except MalformedEvidence:
            continue


# Versions, mode, measurements.


@pytest.mark.parametrize(
    ("rules", "passes"),
    [
        ({"driver_versions": ["550.90.07"]}, True),
        ({"driver_versions": ["550.90.08"]}, False),
        ({"minimum_driver": "550.90.07"}, True),
        ({"minimum_driver": "550.9"}, True),
        ({"minimum_driver": "550.90.08"}, False),
        ({"minimum_driver": "570.00"}, False),
        ({"minimum_driver": "570.00", "driver_versions": ["550.90.07"]}, True),
    ],
)
def test_driver_versions(rules: dict[str, Any], passes: bool) -> None:
    sheet = judge(allow_any_driver=None, **rules)
    assert failures(sheet) == ([] if passes else ["nvidia.driver-version"])


@pytest.mark.parametrize(
    ("rules", "passes"),
    [
        ({"vbios_versions": ["96.00.5E.00.01"]}, True),
        ({"vbios_versions": ["96.00.5E.00.02"]}, False),
        ({"minimum_vbios": ["96.00.5E.00.01"]}, True),
        ({"minimum_vbios": ["96.00.5E.00.02"]}, False),
        ({"minimum_vbios": ["95.00.00.00.00"]}, False),
        ({"minimum_vbios": ["97.00.88.00.00", "96.00.10.00.00"]}, True),
    ],
)
def test_vbios_versions(rules: dict[str, Any], passes: bool) -> None:
    sheet = judge(allow_any_vbios=None, **rules)
    assert failures(sheet) == ([] if passes else ["nvidia.vbios-version"])


def test_absent_versions_fail() -> None:
    raw = DEVICE.report(DRIVER_VERSION=None, VBIOS_VERSION=None)
    rules: dict[str, Any] = {"minimum_driver": "1.0", "minimum_vbios": ["96.00.00.00.00"]}
    sheet = judge(raw, allow_any_driver=None, allow_any_vbios=None, **rules)
    assert failures(sheet) == ["nvidia.vbios-version", "nvidia.driver-version"]


@pytest.mark.parametrize(
    ("protected", "flag", "allowed", "passes"),
    [
        (b"\x55", b"\0\0", False, True),
        (b"\x55", b"\1\0", False, True),
        (b"\x55", None, False, True),
        (None, None, False, True),
        (b"\xaa", b"\2\0", False, False),
        (b"\xaa", b"\2\0", True, True),
        (b"\xaa", None, True, True),
        (b"\xaa", b"\0\0", True, False),
        (b"\x55", b"\2\0", True, False),
        (None, b"\2\0", True, False),
        (b"\x00", b"\0\0", True, False),
        (b"\x55", b"\3\0", True, False),
        (b"\x55", b"\0\1", True, False),
    ],
)
def test_mode(protected: bytes | None, flag: bytes | None, allowed: bool, passes: bool) -> None:
    raw = DEVICE.report(PROTECTED_PCIE_STATUS=protected, FEATURE_FLAG=flag)
    sheet = judge(raw, allow_protected_pcie=allowed)
    assert failures(sheet) == ([] if passes else ["nvidia.mode"])


def test_pinned_measurements() -> None:
    digest = judge().claims["measurements"]
    rules: dict[str, Any] = {"allow_any_measurements": False}
    assert accepted(judge(measurements=[digest, "00" * 48], **rules), at=NOW)
    assert failures(judge(measurements=["00" * 48], **rules)) == ["nvidia.measurements"]


def test_one_measurement_more_or_other_changes_the_digest() -> None:
    made = GpuReport.from_bytes(DEVICE.report())
    changed = made.measurements[7]._replace(value=bytes(48))
    for blocks in (made.measurements[:-1], (*made.measurements[:7], changed, *made.measurements[8:])):
        raw = DEVICE.sign(made.request, blocks, made.opaque)
        pinned = [made.measurement_digest.hex()]
        sheet = judge(raw, allow_any_measurements=False, measurements=pinned)
        assert failures(sheet) == ["nvidia.measurements"]


def test_required_manifests_that_are_absent_are_unevaluable() -> None:
    sheet = judge(allow_any_measurements=False, rims="required")
    assert outcome(sheet, "nvidia.rim-found") is Outcome.UNEVALUABLE
    assert not failures(sheet)
    assert not accepted(sheet, at=NOW)


def test_without_a_section_there_is_no_appraisal() -> None:
    around = context(replace(policy(), nvidia_gpu=None), NOW)
    with pytest.raises(PolicyError, match="nvidia_gpu"):
        appraise(DEVICE.report(), DEVICE.chain, around, subject="gpu0", nonce=NONCE)


def test_every_check_has_words() -> None:
    for check in NvidiaCheck:
        assert check.startswith("nvidia.")
        assert all((check.clause, check.fails, check.remedy))
