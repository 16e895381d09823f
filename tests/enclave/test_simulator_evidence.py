"""What the simulator signs is judged by the same code as real hardware, and passes or fails as that would."""

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from attestation import Bundle, Collateral, ExitCode, MalformedEvidence, Policy
from attestation.binding import sha256
from attestation.nvidia import GpuReport
from attestation.roots import Roots
from attestation.snp.flags import GuestFlag, PlatformInfo
from attestation.snp.product import FirmwareVersion
from attestation.snp.report import SnpReport
from enclave.simulator.chip import GUEST_POLICY, PLATFORM, TCB, Platform, SnpProcessor
from enclave.simulator.gpu import Mode
from enclave.simulator.roots import ark, ask, device_authorities
from enclave.tee.interface import EvidenceUnavailable
from tests.enclave.simulation import (
    CODE,
    MEASUREMENT,
    NONCE,
    NOW,
    Machine,
    failed,
    gpu,
    judge,
    keyset,
    policy,
    simulated,
    workload,
)


def test_a_strict_policy_accepts_it_and_says_simulated() -> None:
    verdict = judge(Machine().bundle())
    assert verdict.blocking() == ()
    assert verdict.exit_code == ExitCode.SIMULATED
    assert all(result.outcome == "pass" for result in verdict.results)


def test_claims_are_those_of_the_machine() -> None:
    claims = judge(Machine().bundle()).claims
    assert claims["cpu0"]["measurement"] == MEASUREMENT.hex()
    assert claims["gpu0"]["chip"] == "GH100"


def test_many_gpus_are_many_devices() -> None:
    seed = os.urandom(32)
    bundle = Machine(gpus=[gpu(index, seed=seed) for index in range(3)]).bundle()
    verdict = judge(bundle, policy(devices=3))
    assert verdict.accepted
    keys = {verdict.claims[f"gpu{index}"]["device_certificate"] for index in range(3)}
    assert len(keys) == 3
    assert "bundle.devices" in failed(judge(bundle, policy(devices=2)))


def test_reports_parse_and_encode_to_the_same_bytes() -> None:
    bundle = Machine().bundle()
    assert SnpReport.from_bytes(bundle.cpu.report).to_bytes() == bundle.cpu.report
    report = bundle.devices[0].report
    assert GpuReport.from_bytes(report).to_bytes() == report


@pytest.mark.parametrize(
    ("platform", "check"),
    [
        (
            Platform(guest_policy=replace(GUEST_POLICY, flags=GUEST_POLICY.flags | GuestFlag.DEBUG)),
            "guest-debug",
        ),
        (
            Platform(guest_policy=replace(GUEST_POLICY, flags=GUEST_POLICY.flags | GuestFlag.MIGRATE_MA)),
            "guest-migration",
        ),
        (Platform(platform_info=PLATFORM | PlatformInfo.SMT), "smt"),
        (Platform(platform_info=PlatformInfo.ECC), "platform-alias-check"),
        (Platform(tcb=replace(TCB, snp=TCB.snp - 1)), "tcb-reported"),
        (Platform(committed_tcb=replace(TCB, ucode=TCB.ucode - 1)), "tcb-committed"),
        (Platform(certified_tcb=replace(TCB, bl=TCB.bl + 1)), "certificate-tcb"),
    ],
)
def test_a_platform_that_misbehaves_is_refused(platform: Platform, check: str) -> None:
    verdict = judge(Machine(platform=platform).bundle())
    assert not verdict.accepted
    assert f"snp.{check}" in failed(verdict)


def test_another_firmware_version_alone_is_accepted() -> None:
    assert judge(Machine(platform=Platform(firmware=FirmwareVersion(1, 58, 2))).bundle()).accepted


def test_the_old_measurement_refuses_new_code() -> None:
    verdict = judge(Machine(measurement=bytes(48)).bundle())
    assert failed(verdict) == {"snp.measurement"}


def test_a_gpu_with_other_code_or_not_in_confidential_mode_is_refused() -> None:
    other = judge(Machine(gpus=[gpu(code=bytes(48))]).bundle())
    assert failed(other) == {"nvidia.measurements"}
    for mode in (Mode.DEBUG, Mode.OFF):
        refused = judge(Machine(gpus=[gpu(mode=mode)]).bundle())
        assert failed(refused) == {"nvidia.tcb-flags", "nvidia.measurements"}


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes((data[position] ^ 1,)) + data[position + 1 :]


def alter_report(bundle: Bundle) -> Bundle:
    return replace(bundle, cpu=replace(bundle.cpu, report=flipped(bundle.cpu.report, 0x90)))


def alter_gpu(bundle: Bundle) -> Bundle:
    device = bundle.devices[0]
    return replace(bundle, devices=(replace(device, report=flipped(device.report, 60)),))


def swap_gpu(bundle: Bundle) -> Bundle:
    return replace(bundle, devices=Machine().bundle().devices)


def strip_gpu(bundle: Bundle) -> Bundle:
    return replace(bundle, devices=())


def repeat_gpu(bundle: Bundle) -> Bundle:
    return replace(bundle, devices=bundle.devices * 2)


def swap_chip(bundle: Bundle) -> Bundle:
    return replace(bundle, cpu=replace(bundle.cpu, endorsements=Machine().bundle().cpu.endorsements))


def swap_workload(bundle: Bundle) -> Bundle:
    return replace(bundle, workload=bundle.workload.replace(b'"engine":{}', b'"engine":{"x":1}'))


def swap_keyset(bundle: Bundle) -> Bundle:
    return replace(bundle, keyset=bundle.keyset.replace(b'"key_id":1', b'"key_id":2'))


@pytest.mark.parametrize(
    ("alter", "check"),
    [
        (alter_report, "snp.report-signature"),
        (alter_gpu, "nvidia.report-signature"),
        (swap_gpu, "snp.report-data"),
        (strip_gpu, "bundle.devices"),
        (repeat_gpu, "nvidia-list.distinct"),
        (swap_chip, "snp.report-signature"),
        (swap_workload, "snp.report-data"),
        (swap_keyset, "nvidia.nonce"),
    ],
)
def test_altered_evidence_is_refused(alter: Callable[[Bundle], Bundle], check: str) -> None:
    verdict = judge(alter(Machine().bundle()))
    assert check in failed(verdict)
    assert not verdict.accepted


def test_without_collateral_it_is_not_evaluable() -> None:
    verdict = judge(replace(Machine().bundle(), collateral=Collateral()))
    assert verdict.exit_code == ExitCode.UNEVALUABLE


def test_another_nonce_is_refused() -> None:
    assert "bundle.nonce" in failed(judge(Machine().bundle(), nonce=bytes(32)))


def test_vendors_roots_refuse_the_simulator() -> None:
    rules = policy()
    vendors: Policy = rules.with_roots(Roots.pinned({"amd", "nvidia"}))
    verdict = judge(Machine().bundle(), vendors)
    assert {"snp.root", "snp.chain", "nvidia.chain-root"} & failed(verdict)
    assert not verdict.accepted


def test_every_authority_says_that_it_is_simulated() -> None:
    certificates = [
        ark().certificate,
        ask().certificate,
        *(each.certificate for each in device_authorities()),
    ]
    for certificate in certificates:
        assert "SIMULATED INSECURE" in certificate.subject.rfc4514_string()


def test_a_session_is_bound() -> None:
    with pytest.raises(MalformedEvidence):  # not a session, and yet signed as it is
        judge(Machine().bundle(session=b"{}"))


def test_the_cpu_never_signs_what_a_caller_chose() -> None:
    wanted = os.urandom(32)
    report = SnpReport.from_bytes(Machine().bundle(wanted).cpu.report)
    assert wanted not in report.report_data
    assert sha256(keyset()) not in report.report_data and sha256(workload()) not in report.report_data


def test_one_seed_is_one_chip() -> None:
    seed = bytes(32)
    chips = [SnpProcessor(MEASUREMENT, seed=seed, clock=lambda: NOW) for _ in range(2)]
    assert chips[0].chip_id == chips[1].chip_id
    assert SnpProcessor(MEASUREMENT, clock=lambda: NOW).chip_id != chips[0].chip_id
    assert gpu(seed=seed).serial == gpu(seed=seed).serial != gpu(1, seed=seed).serial


def test_sizes_are_checked() -> None:
    chip = SnpProcessor(MEASUREMENT, clock=lambda: NOW)
    with pytest.raises(ValueError, match="64 bytes"):
        chip.report(bytes(63))
    with pytest.raises(ValueError, match="64 bytes"):
        chip.report(bytes(64), vmpl=4)
    with pytest.raises(ValueError, match="48 bytes"):
        SnpProcessor(bytes(32))
    with pytest.raises(EvidenceUnavailable, match="32 bytes"):
        simulated(gpu(code=CODE)).report(NONCE[1:])


def test_keys_do_not_show() -> None:
    seed = os.urandom(32)
    chip = SnpProcessor(MEASUREMENT, seed=seed, clock=lambda: NOW)
    for shown in (repr(chip), repr(gpu(seed=seed)), repr(ask()), repr(device_authorities())):
        assert repr(seed)[2:-1] not in shown
        assert "RivateKey" not in shown
