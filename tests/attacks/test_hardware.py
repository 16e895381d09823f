"""THREAT_MODEL rows H1 to H7: the operator of a machine on which `cloister serve --tee` runs.

No such machine was at hand: reports, quotes and GPU evidence are genuine captures, the kernel and the driver
that hand them out are played (tests/hardware).
"""

import contextlib
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from attestation import Bundle, Collateral, Policy, PolicyError, Roots
from attestation.snp import table
from enclave import hardware
from enclave.configuration import ConfigurationError
from enclave.gpu.nvml import GpuRefused, admit
from enclave.hardware import GpuJudge, NoCollateral, admitted
from enclave.identity import Identity
from enclave.simulator.chip import SnpProcessor
from enclave.tee.gather import gather
from enclave.tee.interface import EvidenceUnavailable
from enclave.tee.tsm import REPORTS, TsmCpu
from tests.attestation import snp_cases, tdx_cases
from tests.attestation.nvidia import case
from tests.enclave.simulation import gpu as simulated_gpu
from tests.enclave.simulation import keyset, simulated, workload
from tests.gpu.nvml.fake import Driver, install, pynvml
from tests.hardware.kernel import LOGGED, SNP, Kernel, logged, snp, tdx
from tests.hardware.test_tsm import DATA, GENOA, NONCE, SNP_RULES, TDX_RULES, blocking, judged
from tests.hardware.test_worker import GPU_POLICY, configuration
from tests.running import cloister


def roots() -> Roots:
    return snp_cases.load_case(SNP.partition("/")[2]).roots


def bundle(cpu: TsmCpu, at: datetime, **more: Any) -> Bundle:
    return gather(NONCE, keyset(at), None, workload(), cpu=cpu, collateral=NoCollateral(), **more)


def refused_to_start(kernel: Kernel, tree: Path, tee: str) -> str:
    """Why a worker does not start; it would fail otherwise if it came to load what is not there."""
    missing, identity = replace(configuration(tee=tee), model=tree / "none"), Identity()
    with contextlib.ExitStack() as until_end:
        until_end.callback(identity.erase)
        with pytest.raises(EvidenceUnavailable) as refused:
            hardware.started(missing, identity, TsmCpu(tee, reports=tree, files=kernel), ())
    return str(refused.value)


@pytest.mark.skipif(REPORTS.exists(), reason="this machine is a guest of a TEE")
def test_h1_where_there_is_no_tee_no_worker_starts() -> None:
    done = cloister("serve", "--port", "0", "--tee", "tdx")
    assert done.returncode == 10 and "not started: " in done.stderr
    assert "listening" not in done.stdout and "SIMULATED" not in done.stderr


@pytest.mark.parametrize(
    ("kernel", "tee", "said"),
    [(snp, "tdx", "--tee sev-snp"), (tdx, "sev-snp", "--tee tdx"), (partial(snp), "sev-snp", "")],
)
def test_h1_a_machine_of_another_provider_starts_none(
    kernel: Any, tee: str, said: str, tmp_path: Path
) -> None:
    made = kernel()
    if not said:  # a driver that is neither
        made.provider, said = "arm_cca_guest", "run inside an SEV-SNP or TDX guest"
    assert said in refused_to_start(made, tmp_path, tee)
    assert made.asked == []


@pytest.mark.parametrize("options", [{"insecure_gpu": True}, {"gpu_toll": True}])
def test_h1_nothing_of_the_simulator_goes_with_hardware(options: dict[str, bool]) -> None:
    with pytest.raises(ConfigurationError, match="belong to the simulator"):
        configuration(**options)


def test_h2_a_report_that_answers_another_request_is_found_out(tmp_path: Path) -> None:
    """The captured report answers what its own machine asked: no other nonce, keyset or workload."""
    made = bundle(TsmCpu("sev-snp", reports=tmp_path, files=snp()), GENOA)
    assert blocking(judged(made, SNP_RULES, GENOA, roots(), Collateral())) == {"cpu0 snp.report-data"}


@pytest.mark.parametrize("disturbed", [1, 2])
def test_h2_a_request_that_is_written_to_while_it_is_answered_gives_no_evidence(
    disturbed: int, tmp_path: Path
) -> None:
    kernel = snp()
    cpu = TsmCpu("sev-snp", reports=tmp_path, files=kernel)
    kernel.disturbed = disturbed
    if disturbed == 1:
        cpu.report(DATA)
    else:
        with pytest.raises(EvidenceUnavailable, match="another process of root"):
            cpu.report(DATA)
    assert kernel.asked == [DATA, DATA]  # never what was read under a count that moved
    assert len(set(kernel.made)) == len(kernel.made) and not list(tmp_path.iterdir())


def test_h3_another_image_is_another_measurement(tmp_path: Path) -> None:
    made = bundle(TsmCpu("sev-snp", reports=tmp_path, files=snp()), GENOA)
    pinned = SNP_RULES.replace("allow_any_measurement = true", f'measurements = ["{"ab" * 48}"]')
    assert "cpu0 snp.measurement" in blocking(judged(made, pinned, GENOA, roots(), Collateral()))


def table_of(guid: bytes, content: bytes) -> bytes:
    """A certificate table with one entry."""
    size = 24
    return (
        guid + (2 * size).to_bytes(4, "little") + len(content).to_bytes(4, "little") + bytes(size) + content
    )


@pytest.mark.parametrize("guid", [table.VCEK, table.ARK])
def test_h4_certificates_that_the_host_makes_up_vouch_for_nothing(guid: bytes, tmp_path: Path) -> None:
    own = SnpProcessor(bytes(48)).endorsements[0]  # under the simulator's root, whose key anybody has
    kernel = snp(added=table_of(guid, own))
    made = bundle(TsmCpu("sev-snp", reports=tmp_path, files=kernel), GENOA)
    assert len(made.cpu.endorsements) == 1
    found = judged(made, SNP_RULES, GENOA, roots(), Collateral())
    assert not found.accepted and blocking(found) & {"cpu0 snp.chain", "cpu0 snp.root"}


def test_h4_a_table_that_is_none_gives_no_evidence(tmp_path: Path) -> None:
    with pytest.raises(EvidenceUnavailable, match="does not parse"):
        TsmCpu("sev-snp", reports=tmp_path, files=snp(added=b"\1" * 100)).report(DATA)


@pytest.mark.parametrize("what", ["left out", "altered"])
def test_h5_an_event_log_is_there_and_replays_or_the_policy_rejects(what: str, tmp_path: Path) -> None:
    (tree := tmp_path / "tree").mkdir()
    kernel, log = logged(tmp_path)
    context = tdx_cases.load(LOGGED).context(tdx_cases.tdx_rules())
    made = bundle(TsmCpu("tdx", reports=tree, event_log=log, files=kernel), context.now)
    raw = bytearray(made.cpu.endorsements[0])
    raw[raw.index(b"\x0c\x00", 200) + 10] ^= 1  # a SHA-384 digest
    kept = (bytes(raw),) if what == "altered" else ()
    made = replace(made, cpu=replace(made.cpu, endorsements=kept))
    rules = TDX_RULES + "require_event_log = true\n"
    found = judged(made, rules, context.now, context.policy.roots, context.collateral)
    assert "cpu0 tdx.event-log" in blocking(found)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    genuine = case("nvidia-gpu/h100-550")
    made = Driver(genuine.report, genuine.chain)
    install(made, monkeypatch)
    monkeypatch.setattr(
        hardware, "admit", partial(admit, nonce=lambda: genuine.nonce, now=lambda: genuine.at)
    )
    return made


def refused_gpus(judge: GpuJudge | None) -> str:
    with (
        contextlib.ExitStack() as until_end,
        pytest.raises((GpuRefused, EvidenceUnavailable)) as refused,
    ):
        admitted(judge, until_end)
    return str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cc": pynvml.NVML_CC_SYSTEM_FEATURE_DISABLED}, "mode is off"),
        ({"dev_tools": pynvml.NVML_CC_SYSTEM_DEVTOOLS_MODE_ON}, "DevTools"),
        ({"environment": pynvml.NVML_CC_SYSTEM_ENVIRONMENT_SIM}, "production"),
        ({"gpus": 2}, "count"),
    ],
)
def test_h6_a_gpu_that_is_not_confined_gets_nothing(
    driver: Driver, changes: dict[str, int], said: str
) -> None:
    for name, value in changes.items():
        setattr(driver, name, value)
    assert said in refused_gpus(GpuJudge(policy=GPU_POLICY, collateral=Collateral()))
    assert "nvmlSystemSetConfComputeGpusReadyState" not in driver.calls


def test_h6_without_a_policy_no_gpu_is_used(driver: Driver) -> None:
    assert "--gpu-policy" in refused_gpus(None)
    assert driver.calls == []


def test_h6_a_policy_that_trusts_the_simulator_admits_no_real_gpu(driver: Driver) -> None:
    simulated_rules = GPU_POLICY.replace('"nvidia"', '"simulator"')
    assert refused_gpus(GpuJudge(policy=simulated_rules, collateral=Collateral()))
    assert "nvmlSystemSetConfComputeGpusReadyState" not in driver.calls


def test_h6_a_gpu_that_replays_its_evidence_is_found_out_before_anything_is_loaded(
    driver: Driver, tmp_path: Path
) -> None:
    cpu, identity = TsmCpu("sev-snp", reports=tmp_path, files=snp()), Identity()
    missing = replace(configuration(confidential_gpu=True), model=tmp_path / "none")
    with contextlib.ExitStack() as until_end:
        until_end.callback(identity.erase)
        gpus = admitted(GpuJudge(policy=GPU_POLICY, collateral=Collateral()), until_end)
        with pytest.raises(EvidenceUnavailable, match="another nonce"):
            hardware.started(missing, identity, cpu, gpus)


def test_h7_a_simulated_gpu_beside_a_real_cpu_is_no_gpu(tmp_path: Path) -> None:
    made = bundle(
        TsmCpu("sev-snp", reports=tmp_path, files=snp()), GENOA, devices=[simulated(simulated_gpu())]
    )
    rules = SNP_RULES.replace('"amd"', '"amd", "nvidia"')
    rules += "[nvidia_gpu]" + GPU_POLICY.partition("[nvidia_gpu]")[2]
    found = blocking(judged(made, rules, GENOA, roots(), Collateral()))
    assert {"gpu0 nvidia.chain-root", "cpu0 snp.report-data"} <= found


def test_h7_a_policy_that_trusts_the_simulator_may_trust_no_vendor() -> None:
    both = SNP_RULES.format("").replace('"amd"', '"amd", "simulator"')
    with pytest.raises(PolicyError, match="simulator"):
        Policy.from_toml("version = 1\nmax_verdict_age = 3600\n" + both)
