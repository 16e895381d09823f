"""Every published NVIDIA case: the verdict and the claims that it expects."""

from dataclasses import replace
from typing import Any

import pytest

from attestation import MalformedEvidence
from attestation.nvidia import appraise, appraise_list, appraise_rim, appraise_switch
from attestation.verdict import Outcome, Sheet

from .nvidia import RIMS, Case, accepted, case, cases, context, policy, switch_policy


def _gpu(found: Case) -> list[Sheet]:
    overrides: dict[str, Any] = {"allow_protected_pcie": True, **(RIMS if found.rims else {})}
    around = context(policy(**overrides), found.at, rims=found.rims)
    return [appraise(found.report, found.chain, around, subject="gpu0", nonce=found.nonce)]


def _switch(found: Case) -> list[Sheet]:
    rules = switch_policy(**(RIMS if found.rims else {}))
    around = context(policy(), found.at, rims=found.rims)
    return [
        appraise_switch(found.report, found.chain, around, subject="switch0", nonce=found.nonce, rules=rules)
    ]


def _list(found: Case) -> list[Sheet]:
    devices = found.devices
    lenient: dict[str, Any] = {"allow_protected_pcie": True, "allow_unattested_switches": True}
    judged_by = policy(**lenient, count=len(devices))
    rules = switch_policy(count=len(devices))
    switches = all(device.tee == "nvidia-nvswitch" for device in devices)
    around = context(replace(judged_by, nvidia_gpu=None) if switches else judged_by, found.at)
    together = appraise_list(devices, around, subject="devices", switch_rules=rules if switches else None)
    sheets = [together]
    for index, device in enumerate(devices):
        subject = f"device{index}"
        if device.tee == "nvidia-gpu":
            sheet = appraise(device.report, device.chain, around, subject=subject, nonce=found.nonce)
        else:
            sheet = appraise_switch(
                device.report, device.chain, around, subject=subject, nonce=found.nonce, rules=rules
            )
        sheets.append(sheet)
    return sheets


def _rim(found: Case) -> list[Sheet]:
    return [appraise_rim(found.files["rim.xml"], context(policy(), found.at), subject="rim")]


def _sheets(found: Case) -> list[Sheet]:
    if "rim.xml" in found.files:
        return _rim(found)
    if "report.bin" not in found.files:
        return _list(found)
    return _gpu(found) if found.table["tee"] == "nvidia-gpu" else _switch(found)


NAMES = cases("nvidia-gpu") + cases("nvidia-nvswitch") + cases("nvidia-rim")


@pytest.mark.parametrize("name", NAMES)
def test_case_has_the_expected_verdict_and_claims(name: str) -> None:
    found = case(name)
    try:
        sheets = _sheets(found)
    except MalformedEvidence:
        assert not found.passes
        return
    assert accepted(*sheets, at=found.at) is found.passes
    claims = sheets[0].claims
    assert {key: claims[key] for key in found.claims} == found.claims


def test_a_repeated_device_fails_for_that_alone() -> None:
    found = case("nvidia-nvswitch/fail-duplicate-device-list")
    together, *each = _list(found)
    assert accepted(*each, at=found.at)
    failed = [str(item.check) for item in together.results() if item.outcome is not Outcome.PASS]
    assert failed == ["nvidia-list.distinct"]


def test_there_are_cases_of_every_kind() -> None:
    assert len(NAMES) >= 22


def test_eight_gpus_of_a_composite_host_are_genuine_and_distinct() -> None:
    found = case("composite/dstack-tdx-8x-h200")
    sheets = _list(found)
    assert accepted(*sheets, at=found.at)
    assert sheets[0].claims["distinct_devices"] == 8
    expected = found.claims["gpu0"]
    assert {key: sheets[1].claims[key] for key in expected} == expected
