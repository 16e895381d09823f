"""Confidential GPUs beside a real CPU TEE: which are admitted, and the bundle that both stand in."""

import contextlib
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from attestation import Bundle, Collateral, Policy, verify
from attestation.binding import gpu_nonce, report_data
from enclave import hardware
from enclave.gpu.nvml import GpuRefused, admit
from enclave.hardware import GpuJudge, NoCollateral, admitted
from enclave.identity import Identity
from enclave.tee.gather import gather
from enclave.tee.interface import EvidenceUnavailable
from enclave.tee.tsm import TsmCpu
from tests.attestation.nvidia import case
from tests.enclave.simulation import keyset, workload
from tests.gpu.nvml.fake import Driver, install, pynvml
from tests.hardware.kernel import snp
from tests.hardware.test_tsm import GENOA, HEAD, NONCE, SNP_RULES, WORKLOAD
from tests.hardware.test_worker import GPU_POLICY, configuration


def echo(driver: Driver, handle: Any, reply: Any) -> None:
    """The report answers whatever nonce was asked for, which breaks its signature."""
    driver.report = driver.report[:4] + bytes(reply._obj.nonce) + driver.report[36:]
    genuine_answer(driver, handle, reply)


ANSWER = "_nvmlDeviceGetConfComputeGpuAttestationReport"
genuine_answer = getattr(Driver, ANSWER)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Any:
    genuine = case("nvidia-gpu/h100-550")
    made = Driver(genuine.report, genuine.chain)
    install(made, monkeypatch)
    fixed = partial(admit, nonce=lambda: genuine.nonce, now=lambda: genuine.at)
    monkeypatch.setattr(hardware, "admit", fixed)
    return made


def test_genuine_ones_become_the_bundles_devices(driver: Any) -> None:
    judge = GpuJudge(policy=GPU_POLICY, collateral=Collateral())
    with contextlib.ExitStack() as until_end:
        gpus = admitted(judge, until_end)
        assert [gpu.tee for gpu in gpus] == ["nvidia-gpu"]
        assert "nvmlShutdown" not in driver.calls
    assert driver.calls[-1] == "nvmlShutdown"


def test_one_that_replays_evidence_is_found_out_before_anything_is_loaded(
    driver: Any, tmp_path: Path
) -> None:
    judge = GpuJudge(policy=GPU_POLICY, collateral=Collateral())
    cpu, identity = TsmCpu("sev-snp", reports=tmp_path, files=snp()), Identity()
    missing = replace(configuration(confidential_gpu=True), model=tmp_path / "none")
    with contextlib.ExitStack() as until_end:
        until_end.callback(identity.erase)
        gpus = admitted(judge, until_end)
        with pytest.raises(EvidenceUnavailable, match="another nonce"):
            hardware.started(missing, identity, cpu, gpus)
    assert len(driver.nonces) == 2 and driver.nonces[0] != driver.nonces[1]


def test_cpu_and_gpus_stand_in_one_bundle_each_under_its_own_check(
    driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Driver, ANSWER, echo)
    judge, kernel = GpuJudge(policy=GPU_POLICY, collateral=Collateral()), snp()
    cpu = TsmCpu("sev-snp", reports=tmp_path, files=kernel)
    with contextlib.ExitStack() as until_end:
        gpus = admitted(judge, until_end)
        made = gather(
            NONCE, keyset(GENOA), None, workload(), cpu=cpu, devices=gpus, collateral=NoCollateral()
        )
    bound = [device.bound() for device in made.devices]
    assert kernel.asked == [report_data(NONCE, keyset(GENOA), b"", bound, workload())]
    assert driver.nonces[-1] == gpu_nonce(NONCE, keyset(GENOA), b"", 0)
    snp_rules = SNP_RULES.format("").replace('"amd"', '"amd", "nvidia"')
    policy = Policy.from_toml(
        HEAD + snp_rules + WORKLOAD + "[nvidia_gpu]" + GPU_POLICY.partition("[nvidia_gpu]")[2]
    )
    verdict = verify(
        Bundle.from_json(made.to_json()),
        Collateral(),
        policy,
        nonce=NONCE,
        now=GENOA,
        nonce_age=timedelta(0),
    )
    assert {f"{each.subject} {each.check}" for each in verdict.blocking()} == {
        "cpu0 snp.report-data",
        "gpu0 nvidia.report-signature",
    }


def test_others_are_refused_before_they_are_given_anything(driver: Any) -> None:
    driver.cc = pynvml.NVML_CC_SYSTEM_FEATURE_DISABLED
    judge = GpuJudge(policy=GPU_POLICY, collateral=Collateral())
    with contextlib.ExitStack() as until_end, pytest.raises(GpuRefused, match="mode is off"):
        admitted(judge, until_end)
    assert "nvmlSystemSetConfComputeGpusReadyState" not in driver.calls


def test_without_a_policy_none_is() -> None:
    with (
        contextlib.ExitStack() as until_end,
        pytest.raises(EvidenceUnavailable, match="--gpu-policy"),
    ):
        admitted(None, until_end)
