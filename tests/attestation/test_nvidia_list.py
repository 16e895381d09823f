"""The devices of one machine together: count, distinctness, one mode, protected-PCIe topology."""

from dataclasses import replace
from typing import Any

import pytest

from attestation import MalformedEvidence
from attestation.evidence import DeviceEvidence
from attestation.nvidia import appraise_list
from attestation.verdict import Outcome, Sheet

from .nvidia import accepted, case, context, failures, outcome, policy, switch_policy
from .nvidia_maker import NOW, Device

BASE = Device().parties[:3]
GPUS = [Device(above=BASE) for _ in range(2)]
SWITCHES = [Device(above=BASE, chip="LS_10") for _ in range(2)]
SWITCH_IDS = [bytes([1, 2, 3, 4, 5, 6, 7, n]) for n in (1, 2)]
GPU_IDS = [bytes([9, 8, 7, 6, 5, 4, 3, n]) for n in (1, 2)]
LINKS = b"".join(each[::-1] for each in SWITCH_IDS) * 4 + bytes(16)
PORTS = b"".join(each[::-1] for each in GPU_IDS) + bytes(48) + b"\xff" * 64


def gpu(number: int, **opaque: bytes | None) -> DeviceEvidence:
    """A GPU in protected-PCIe mode that is linked to both switches."""
    fields: dict[str, Any] = {"PROTECTED_PCIE_STATUS": b"\xaa", "FEATURE_FLAG": b"\2\0"}
    fields |= {"SWITCH_PDI": LINKS} | opaque
    device = GPUS[number]
    return DeviceEvidence(tee="nvidia-gpu", report=device.report(**fields), chain=device.chain)


def switch(number: int, **opaque: bytes | None) -> DeviceEvidence:
    """A switch that is linked to both GPUs."""
    fields: dict[str, Any] = dict.fromkeys(
        ("DRIVER_VERSION", "NVDEC0_STATUS", "FWID", "PROTECTED_PCIE_STATUS", "FEATURE_FLAG")
    )
    fields |= {"DEVICE_PDI": SWITCH_IDS[number], "SWITCH_GPU_PDIS": PORTS} | opaque
    device = SWITCHES[number]
    report = device.report(**fields)
    return DeviceEvidence(tee="nvidia-nvswitch", report=report, chain=device.chain)


def judge(*devices: DeviceEvidence, gpus: int = 2, switches: int = 2, **rules: Any) -> Sheet:
    """The sheet of a list under a policy that wants so many of each."""
    around = context(policy(allow_protected_pcie=True, count=gpus, **rules), NOW)
    switch_rules = switch_policy(count=switches) if switches else None
    return appraise_list(devices, around, subject="devices", switch_rules=switch_rules)


MACHINE = (gpu(0), gpu(1), switch(0), switch(1))
SINGLE = {"PROTECTED_PCIE_STATUS": b"\x55", "FEATURE_FLAG": b"\0\0"}


def test_a_machine_in_order_is_accepted() -> None:
    sheet = judge(*MACHINE)
    assert accepted(sheet, at=NOW)
    assert sheet.claims["protected_pcie"] == ["aa", "aa", None, None]


@pytest.mark.parametrize("kept", [(0, 2, 3), (0, 1, 2), (0, 1)])
def test_another_count_fails(kept: tuple[int, ...]) -> None:
    assert "nvidia-list.count" in failures(judge(*(MACHINE[i] for i in kept)))


def test_nothing_at_all_fails() -> None:
    assert failures(judge()) == ["nvidia-list.count", "nvidia-list.distinct"]


def test_a_repeated_gpu_fails() -> None:
    assert failures(judge(gpu(0), gpu(0), *MACHINE[2:])) == ["nvidia-list.distinct"]


def test_a_device_repeated_with_another_leaf_fails() -> None:
    twin = Device(above=GPUS[0].parties[:4])
    entry = replace(gpu(1), chain=twin.chain)
    assert failures(judge(gpu(0), entry, *MACHINE[2:])) == ["nvidia-list.distinct"]


def test_a_chain_cut_short_names_no_device() -> None:
    short = replace(gpu(1), chain=GPUS[1].parties[4].pem)
    assert failures(judge(gpu(0), short, *MACHINE[2:])) == ["nvidia-list.distinct"]


@pytest.mark.parametrize("flag", [b"\0\0", b"\1\0", None])
def test_mixed_modes_fail(flag: bytes | None) -> None:
    other = gpu(1, PROTECTED_PCIE_STATUS=b"\x55", FEATURE_FLAG=flag)
    assert "nvidia-list.single-mode" in failures(judge(gpu(0), other, *MACHINE[2:]))


def test_single_and_multi_gpu_mode_do_not_mix() -> None:
    fields = {"PROTECTED_PCIE_STATUS": b"\x55"}
    pair = gpu(0, **fields, FEATURE_FLAG=b"\0\0"), gpu(1, **fields, FEATURE_FLAG=b"\1\0")
    assert failures(judge(*pair, switches=0)) == ["nvidia-list.single-mode"]


def test_topology_is_asked_for_in_protected_mode_alone() -> None:
    sheet = judge(gpu(0, **SINGLE), gpu(1, **SINGLE), switches=0)
    assert accepted(sheet, at=NOW)
    assert "nvidia-list.topology" not in {str(item.check) for item in sheet.results()}


def test_absent_switches_are_unevaluable_unless_allowed() -> None:
    sheet = judge(*MACHINE[:2], switches=0)
    assert outcome(sheet, "nvidia-list.topology") is Outcome.UNEVALUABLE
    assert not accepted(sheet, at=NOW)
    assert accepted(judge(*MACHINE[:2], switches=0, allow_unattested_switches=True), at=NOW)


@pytest.mark.parametrize(
    "devices",
    [
        (gpu(0), gpu(1, SWITCH_PDI=SWITCH_IDS[0][::-1]), *MACHINE[2:]),
        (gpu(0), gpu(1, SWITCH_PDI=None), *MACHINE[2:]),
        (gpu(0), gpu(1, SWITCH_PDI=LINKS + b"unknown!"), *MACHINE[2:]),
        (*MACHINE[:3], switch(1, DEVICE_PDI=b"unknown!")),
        (*MACHINE[:3], switch(1, DEVICE_PDI=SWITCH_IDS[0])),
        (*MACHINE[:3], switch(1, DEVICE_PDI=None)),
        (*MACHINE[:3], switch(1, SWITCH_GPU_PDIS=PORTS[:8])),
        (*MACHINE[:3], switch(1, SWITCH_GPU_PDIS=None)),
        (*MACHINE[:2], *(switch(n, SWITCH_GPU_PDIS=PORTS[:8]) for n in (0, 1))),
        (*(gpu(n, SWITCH_PDI=b"".join(SWITCH_IDS)) for n in (0, 1)), *MACHINE[2:]),
    ],
)
def test_links_that_do_not_agree_fail(devices: tuple[DeviceEvidence, ...]) -> None:
    assert failures(judge(*devices)) == ["nvidia-list.topology"]


def test_four_genuine_gpus_name_the_same_switches() -> None:
    found = case("nvidia-gpu/multi-4x-h100-ppcie")
    around = context(policy(count=4, allow_unattested_switches=True), found.at)
    sheet = appraise_list(found.devices, around, subject="devices")
    assert accepted(sheet, at=found.at)
    assert {key: sheet.claims[key] for key in found.claims} == found.claims


def test_a_list_that_does_not_parse_is_malformed() -> None:
    with pytest.raises(MalformedEvidence):
        judge(replace(gpu(0), report=b""))
