"""TCB levels, module identities and the converged status, from collateral signed under a root of ours."""

import itertools
from typing import Any

import pytest

from attestation import tdx
from attestation.dcap.status import TcbStatus
from attestation.dcap.tcb import converge, relaunch
from attestation.verdict import Sheet

from . import tdx_pki as pki
from .tdx_cases import context, outcome, tdx_rules, verdict
from .tdx_machine import Platform, launched, td_report
from .tdx_pki import LATEST, NOW, TDX_LATEST, level, module, svn_level, tcb_info

LOW = bytes([3, *LATEST[1:]])
EVERY = [status.value for status in TcbStatus if status not in (TcbStatus.REVOKED, TcbStatus.UNSUPPORTED)]


def appraise(platform: Platform, **keys: Any) -> Sheet:
    surroundings = context(tdx_rules(**keys), platform.collateral(), NOW, platform.roots)
    return tdx.appraise(platform.quote().to_bytes(), surroundings, subject="cpu0", report_data=None)


def status(platform: Platform) -> str:
    return str(appraise(platform).claims["tcb"]["converged_tcb_status"])


def svn(*head: int) -> bytes:
    return bytes(head) + bytes(16 - len(head))


@pytest.mark.parametrize("word", ["UpToDate", "SWHardeningNeeded", "ConfigurationNeeded",
                                  "ConfigurationAndSWHardeningNeeded", "OutOfDate",
                                  "OutOfDateConfigurationNeeded", "Revoked"])  # fmt: skip
def test_each_platform_status(word: str) -> None:
    platform = Platform(info=tcb_info(tcbLevels=[level(word)]))
    sheet = appraise(platform)
    assert sheet.claims["tcb"]["platform_tcb_status"] == word == sheet.claims["tcb"]["converged_tcb_status"]
    assert verdict(sheet, NOW).accepted == (word == "UpToDate")
    accepting = verdict(appraise(platform, tcb_statuses=EVERY), NOW)
    assert accepting.accepted == (word != "Revoked")


def test_a_status_nobody_knows_is_not_supported() -> None:
    platform = Platform(info=tcb_info(tcbLevels=[level("Splendid")]))
    assert status(platform) == "Unsupported"
    assert not verdict(appraise(platform, tcb_statuses=EVERY), NOW).accepted


def test_the_first_level_that_is_reached_in_every_component() -> None:
    levels = [level(), level("OutOfDate", sgx=LOW), level("Revoked", sgx=bytes(16), pcesvn=1)]
    info = tcb_info(tcbLevels=levels)
    assert status(Platform(info=info)) == "UpToDate"
    assert status(Platform(info=info, components=LOW)) == "OutOfDate"
    assert status(Platform(info=info, pcesvn=12)) == "Revoked"
    assert status(Platform(info=info, pcesvn=0)) == "Unsupported"


def test_levels_are_judged_best_first_in_whatever_order_they_come() -> None:
    info = tcb_info(tcbLevels=[level("OutOfDate", sgx=LOW), level()])
    assert status(Platform(info=info)) == "UpToDate"


@pytest.mark.parametrize(
    ("tee", "expected"),
    [
        (svn(6, 1, 3), "UpToDate"),
        (svn(6, 1, 2), "Unsupported"),
        (svn(5, 0, 3), "UpToDate"),
        (svn(4, 0, 3), "Unsupported"),
        (svn(255, 2, 3), "Unsupported"),
    ],
)
def test_the_first_two_tdx_components_count_only_for_module_0(tee: bytes, expected: str) -> None:
    """From module 1 on they are its own version: 6.1 is no less than a level that asks for 7.0."""
    levels = [level(tdx=bytes([7, *TDX_LATEST[1:]])), level(tdx=TDX_LATEST)]
    platform = Platform(info=tcb_info(tcbLevels=levels), report=td_report(tee_tcb_svn=tee))
    assert status(platform) == expected


def test_module_1_is_not_measured_by_the_first_component() -> None:
    high = level(tdx=bytes([200, 9, 3, *([0] * 13)]))
    assert status(Platform(info=tcb_info(tcbLevels=[high]))) == "UpToDate"


@pytest.mark.parametrize(
    ("isvsvn", "expected"),
    [(7, "UpToDate"), (6, "UpToDate"), (5, "OutOfDate"), (3, "Revoked"), (1, "Unsupported")],
)
def test_module_levels(isvsvn: int, expected: str) -> None:
    levels = [svn_level(6), svn_level(4, "OutOfDate", ("INTEL-SA-01036",)), svn_level(2, "Revoked")]
    platform = Platform(
        info=tcb_info(tdxModuleIdentities=[module(3, svn_level(1)), module(1, *levels)]),
        report=td_report(tee_tcb_svn=svn(isvsvn, 1, 3)),
    )
    sheet = appraise(platform)
    assert sheet.claims["tcb"]["converged_tcb_status"] == expected
    assert outcome(sheet, "dcap.tcb-status") == ("pass" if expected == "UpToDate" else "fail")
    if expected == "OutOfDate":
        assert sheet.claims["tcb"]["module_advisories"] == ["INTEL-SA-01036"]


def test_a_module_without_an_identity() -> None:
    sheet = appraise(Platform(report=td_report(tee_tcb_svn=svn(6, 2, 3))))
    assert outcome(sheet, "tdx.module") == outcome(sheet, "dcap.tcb-status") == "fail"


def test_the_identity_is_that_of_the_module_in_the_quote() -> None:
    """TDX_03 has another signer: a module 3 must have it, and a module 1 must not."""
    signer = bytes([9]) * 48
    info = tcb_info(
        tdxModuleIdentities=[module(1, svn_level(6)), module(3, svn_level(1), mrsigner=signer.hex())]
    )
    for number, seam, expected in ((1, bytes(48), "pass"), (1, signer, "fail"), (3, signer, "pass")):
        report = td_report(tee_tcb_svn=svn(6, number, 3), mrsignerseam=seam)
        assert outcome(appraise(Platform(info=info, report=report)), "tdx.module") == expected


@pytest.mark.parametrize(
    ("isvsvn", "expected"), [(8, "UpToDate"), (5, "OutOfDate"), (3, "Revoked"), (1, "Unsupported")]
)
def test_quoting_enclave_levels(isvsvn: int, expected: str) -> None:
    identity = pki.qe_identity(tcbLevels=[svn_level(6), svn_level(4, "OutOfDate"), svn_level(2, "Revoked")])
    platform = Platform(identity=identity, qe={"isvsvn": isvsvn})
    assert status(platform) == expected
    assert verdict(appraise(platform), NOW).accepted == (expected == "UpToDate")


@pytest.mark.parametrize(
    ("launch", "now", "expected"),
    [
        (svn(4, 1, 3), svn(6, 1, 3), "TDRelaunchAdvised"),
        (svn(4, 1, 3), svn(4, 1, 3), "OutOfDate"),
        (svn(6, 1, 3), svn(6, 1, 3), "UpToDate"),
        (svn(6, 1, 3), svn(7, 1, 3), "UpToDate"),
        (svn(4, 1, 3), svn(1, 1, 3), "Unsupported"),
    ],
)
def test_a_module_updated_since_launch(launch: bytes, now: bytes, expected: str) -> None:
    info = tcb_info(tdxModuleIdentities=[module(1, svn_level(6), svn_level(4, "OutOfDate"))])
    platform = Platform(info=info, report=td_report(tee_tcb_svn=launch, launched=launched(now)))
    sheet = appraise(platform, tcb_statuses=["UpToDate", "TDRelaunchAdvised"])
    assert sheet.claims["tcb"]["converged_tcb_status"] == expected
    assert verdict(sheet, NOW).accepted == (expected in ("UpToDate", "TDRelaunchAdvised"))


def test_a_relaunch_with_configuration_to_do() -> None:
    info = tcb_info(
        tcbLevels=[level("ConfigurationNeeded")],
        tdxModuleIdentities=[module(1, svn_level(6), svn_level(4, "OutOfDate"))],
    )
    report = td_report(tee_tcb_svn=svn(4, 1, 3), launched=launched(svn(6, 1, 3)))
    assert status(Platform(info=info, report=report)) == "TDRelaunchAdvisedConfigurationNeeded"


@pytest.mark.parametrize(
    ("keys", "accepted"),
    [
        ({}, False),
        ({"tcb_statuses": ["SWHardeningNeeded"]}, False),
        ({"tcb_statuses": ["SWHardeningNeeded"], "advisories": ["INTEL-SA-00615"]}, False),
        ({"tcb_statuses": ["SWHardeningNeeded"], "advisories": ["INTEL-SA-00615", "INTEL-SA-00289"]}, True),
        ({"tcb_statuses": ["SWHardeningNeeded"], "allow_any_advisory": True}, True),
        ({"advisories": ["INTEL-SA-00615", "INTEL-SA-00289"]}, False),
    ],
)
def test_a_lesser_status_brings_its_advisories(keys: dict[str, Any], accepted: bool) -> None:
    found = level("SWHardeningNeeded", advisories=("INTEL-SA-00289", "INTEL-SA-00615"))
    sheet = appraise(Platform(info=tcb_info(tcbLevels=[found])), **keys)
    assert verdict(sheet, NOW).accepted == accepted


def test_convergence_is_never_better_than_its_worst_part() -> None:
    order = {"UpToDate": 0, "SWHardeningNeeded": 0, "ConfigurationNeeded": 0}
    order |= {"ConfigurationAndSWHardeningNeeded": 0, "OutOfDate": 1, "OutOfDateConfigurationNeeded": 1}
    order |= {"Revoked": 2, "Unsupported": 3}
    plain = [TcbStatus(word) for word in order]
    parts = [TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED]
    for platform, *components in itertools.product(plain, parts, parts):
        found = converge(platform, components)
        worst = max(order[word] for word in (platform, *components))
        assert order[found] >= (3 if platform is TcbStatus.UNSUPPORTED else worst)
        configured = "Configuration" in platform and found not in ("Revoked", "Unsupported")
        assert not configured or "Configuration" in found


def test_components_of_unknown_status_are_not_supported() -> None:
    assert converge(TcbStatus.UP_TO_DATE, [TcbStatus.UNSUPPORTED]) is TcbStatus.UNSUPPORTED
    assert converge(TcbStatus.UP_TO_DATE, [TcbStatus.SW_HARDENING]) is TcbStatus.UNSUPPORTED


def test_relaunch_never_helps_a_revoked_platform() -> None:
    for launch, current in itertools.product(TcbStatus, TcbStatus):
        found = relaunch(launch, current)
        if "Relaunch" in found and "Relaunch" not in launch:
            assert launch.startswith("OutOfDate") and not current.startswith(("OutOfDate", "Revoked", "Uns"))
        elif current is not TcbStatus.UNSUPPORTED:
            assert found is launch
