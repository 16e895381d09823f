"""The real GPU's code on captured evidence of real GPUs: what may serve, what may not, and the remedies."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from attestation import Collateral, Policy
from cloister.cli.app import app
from enclave.gpu import nvml as nvml_package
from enclave.gpu.nvml import Admission, GpuRefused, GpuUnavailable, Nvml, NvmlGpu, admit
from enclave.gpu.nvml import admission as admission_module
from enclave.gpu.nvml.library import REMEDIES
from enclave.tee.interface import EvidenceUnavailable
from tests.attestation.nvidia import case, policy
from tests.gpu.nvml.fake import Driver, install, pynvml, recorded

CASE = case("nvidia-gpu/h100-550")
PPCIE = case("nvidia-gpu/h100-590-ppcie")
DEVTOOLS = pynvml.NVML_CC_SYSTEM_DEVTOOLS_MODE_ON
ASKED = (
    "nvmlSystemGetConfComputeState",
    "nvmlSystemGetConfComputeSettings",
    "nvmlSystemGetConfComputeGpusReadyState",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetConfComputeGpuAttestationReport",
    "nvmlDeviceGetConfComputeGpuCertificate",
    "nvmlSystemGetDriverVersion",
)
ERRORS = sorted(
    value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_") and isinstance(value, int)
)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    made = Driver(CASE.report, CASE.chain)
    install(made, monkeypatch)
    yield made


def let_in(judged_by: Policy | None = None, evidence: Any = CASE, **options: Any) -> Admission:
    """Admission at the time and for the nonce that the captured evidence answers."""
    options = {"nonce": lambda: evidence.nonce, "now": lambda: evidence.at, **options}
    with Nvml.open() as nvml:
        return admit(nvml, judged_by or policy(), Collateral(), **options)


def reasons(judged_by: Policy | None = None, evidence: Any = CASE, **options: Any) -> str:
    with pytest.raises(GpuRefused) as refused:
        let_in(judged_by, evidence, **options)
    assert all(each.reason and each.remedy for each in refused.value.findings)
    return str(refused.value)


def test_a_genuine_gpu_in_order_is_let_in_and_then_told_to_work(driver: Driver) -> None:
    admission = let_in()
    assert admission.verdict.accepted and not admission.verdict.simulated
    assert admission.state.enabled and admission.state.ready and not admission.state.dev_tools
    assert driver.nonces == [CASE.nonce]
    assert admission.driver == "550.90.07" and "H100" in repr(admission.gpus[0])
    evidence, told = (
        driver.calls.index(name)
        for name in (
            "nvmlDeviceGetConfComputeGpuAttestationReport",
            "nvmlSystemSetConfComputeGpusReadyState",
        )
    )
    assert evidence < told


def test_a_gpu_that_is_ready_already_is_not_told_again(driver: Driver) -> None:
    driver.ready = pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE
    assert let_in().state.ready
    assert "nvmlSystemSetConfComputeGpusReadyState" not in driver.calls


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cc": pynvml.NVML_CC_SYSTEM_FEATURE_DISABLED}, "mode is off"),
        ({"dev_tools": DEVTOOLS}, "DevTools"),
        ({"environment": pynvml.NVML_CC_SYSTEM_ENVIRONMENT_SIM}, "simulation"),
        ({"environment": pynvml.NVML_CC_SYSTEM_ENVIRONMENT_UNAVAILABLE}, "does not say that"),
        ({"multi_gpu": pynvml.NVML_CC_SYSTEM_MULTIGPU_PROTECTED_PCIE}, "protected-PCIe"),
        ({"multi_gpu": pynvml.NVML_CC_SYSTEM_MULTIGPU_NVLE}, "multi-GPU mode 2"),
        ({"gpus": 0}, "no GPU"),
        ({"stubborn": True}, "does not accept work"),
    ],
)
def test_a_gpu_in_the_wrong_state_is_refused_with_the_remedy(
    driver: Driver, change: dict[str, Any], words: str
) -> None:
    for name, value in change.items():
        setattr(driver, name, value)
    assert words in reasons()


def test_a_real_gpu_out_of_cc_mode_is_refused_for_that_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = recorded("h100-580-cc-off")
    install(seen, monkeypatch)
    with pytest.raises(GpuRefused) as refused:
        let_in()
    assert [each.reason for each in refused.value.findings] == ["confidential computing (CC) mode is off"]
    assert "nvmlDeviceGetConfComputeGpuAttestationReport" not in seen.calls
    assert "nvmlSystemSetConfComputeGpusReadyState" not in seen.calls


def test_its_refusal_to_give_evidence_says_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    install(recorded("h100-580-cc-off"), monkeypatch)
    with Nvml.open() as nvml, pytest.raises(GpuUnavailable, match="out of CC mode") as unavailable:
        NvmlGpu(nvml, 0).report(bytes(32))
    assert unavailable.value.code == pynvml.NVML_ERROR_UNKNOWN


@pytest.mark.gpu
def test_the_gpu_of_this_machine_is_refused_where_it_is_out_of_cc_mode() -> None:
    with Nvml.open() as nvml:
        state = nvml.state()
        if state.enabled:
            pytest.skip("this GPU is in CC mode: `cloister gpu check` judges it")
        with pytest.raises(GpuRefused) as refused:
            admit(nvml, policy(), Collateral())
        assert [each.reason for each in refused.value.findings] == ["confidential computing (CC) mode is off"]
        with pytest.raises(GpuUnavailable):
            NvmlGpu(nvml, 0).report(bytes(32))
        assert nvml.state() == state


def test_every_reason_is_named_at_once(driver: Driver) -> None:
    driver.cc, driver.dev_tools = pynvml.NVML_CC_SYSTEM_FEATURE_DISABLED, DEVTOOLS
    assert {"mode is off", "DevTools"} <= {word for word in ("mode is off", "DevTools") if word in reasons()}
    assert "nvmlDeviceGetConfComputeGpuAttestationReport" not in driver.calls


def test_a_gpu_without_confidential_computing_is_refused(driver: Driver) -> None:
    driver.errors["nvmlSystemGetConfComputeState"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    assert "--insecure-gpu" in reasons()


def test_protected_pcie_serves_where_the_policy_allows_it(driver: Driver) -> None:
    driver.report, driver.chain = PPCIE.report, PPCIE.chain
    driver.multi_gpu = pynvml.NVML_CC_SYSTEM_MULTIGPU_PROTECTED_PCIE
    driver.cc = pynvml.NVML_CC_SYSTEM_FEATURE_DISABLED
    allowed = policy(allow_protected_pcie=True, allow_unattested_switches=True)
    assert let_in(allowed, PPCIE).verdict.accepted
    assert "protected-PCIe" in reasons(policy(), PPCIE)


def test_a_driver_that_hides_protected_pcie_is_overruled_by_the_report(driver: Driver) -> None:
    driver.report, driver.chain = PPCIE.report, PPCIE.chain
    assert "gpu.mode" in reasons(policy(), PPCIE) or "mode" in reasons(policy(), PPCIE)


def test_evidence_that_does_not_verify_is_refused_before_the_gpu_works(driver: Driver) -> None:
    driver.report = CASE.report[:-1] + bytes((CASE.report[-1] ^ 1,))
    assert "signature" in reasons()
    assert driver.ready == pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE
    assert "the policy wants GB100" in reasons(policy(chips=["GB100"]))


def test_a_policy_without_gpus_lets_none_in(driver: Driver) -> None:
    without = replace(policy(), nvidia_gpu=None)
    reasons(without)
    assert driver.ready == pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE


def test_another_gpus_chain_is_refused(driver: Driver) -> None:
    driver.chain = PPCIE.chain
    reasons()


def test_an_answer_to_another_nonce_is_noticed(driver: Driver) -> None:
    with pytest.raises(GpuUnavailable, match="another nonce"):
        let_in(nonce=lambda: bytes(32))


def test_an_older_driver_without_multi_gpu_settings_will_do(driver: Driver) -> None:
    driver.errors["nvmlSystemGetConfComputeSettings"] = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
    assert let_in().state.multi_gpu == 0


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("code", ERRORS)
def test_every_error_of_nvml_is_named_with_a_remedy(driver: Driver, name: str, code: int) -> None:
    driver.errors[name] = code
    try:
        let_in()
    except GpuUnavailable as error:
        assert error.remedy and "NVML error" in str(error)
        assert isinstance(error, EvidenceUnavailable)
    except GpuRefused as refused:
        assert (name, code) == ("nvmlSystemGetConfComputeState", pynvml.NVML_ERROR_NOT_SUPPORTED)
        assert refused.findings
    else:
        assert (name, code) == ("nvmlSystemGetConfComputeSettings", pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)


@pytest.mark.parametrize("code", ERRORS)
def test_a_gpu_that_will_not_be_made_ready_is_refused(driver: Driver, code: int) -> None:
    driver.errors["nvmlSystemSetConfComputeGpusReadyState"] = code
    assert "-srs 1" in reasons()


@pytest.mark.parametrize("size", [0, 0x2001, 2**32 - 1])
def test_a_report_of_an_impossible_size_is_not_read(driver: Driver, size: int) -> None:
    driver.report_size = size
    with pytest.raises(GpuUnavailable, match="report of"):
        let_in()


@pytest.mark.parametrize("size", [0, 0x1401, 2**32 - 1])
def test_a_chain_of_an_impossible_size_is_not_read(driver: Driver, size: int) -> None:
    driver.chain_size = size
    with pytest.raises(GpuUnavailable, match="chain of"):
        let_in()


@pytest.mark.parametrize("size", [1, 36, 37, 100, 1000])
def test_a_truncated_report_is_an_error_with_a_name(driver: Driver, size: int) -> None:
    driver.report_size = size
    with pytest.raises(GpuUnavailable, match="does not parse"):
        let_in()


@pytest.mark.parametrize("size", [1, 100, 3000])
def test_a_truncated_chain_is_refused(driver: Driver, size: int) -> None:
    driver.chain_size = size
    reasons()


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(GpuUnavailable, match=r"cloister\[nvidia\]"):
        Nvml.open()


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setattr(pynvml, "CDLL", lambda *_: (_ for _ in ()).throw(OSError("no such file")))
    with pytest.raises(GpuUnavailable, match="install the NVIDIA driver"):
        Nvml.open()


def test_an_old_nvidia_ml_py_is_told_apart(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pynvml, "nvmlSystemGetConfComputeState")
    with pytest.raises(GpuUnavailable, match="has no"):
        let_in()


def test_a_device_gives_evidence_like_any_other(driver: Driver) -> None:
    assert CASE.nonce is not None
    with Nvml.open() as nvml:
        gpu = NvmlGpu(nvml, 0)
        evidence = gpu.report(CASE.nonce)
        assert (evidence.tee, evidence.report, evidence.chain) == ("nvidia-gpu", CASE.report, CASE.chain)
        with pytest.raises(ValueError, match="32 bytes"):
            gpu.report(b"short")


def test_every_error_code_has_words() -> None:
    assert set(REMEDIES) <= set(ERRORS)


POLICY = """version = 1
roots = ["nvidia"]
max_verdict_age = 3600
[nvidia_gpu]
count = 1
chips = ["GH100"]
allow_any_driver = true
allow_any_vbios = true
allow_any_measurements = true
allow_missing_fwid = true
allow_missing_ocsp = true
"""


def checked(tmp_path: Path) -> Any:
    file = tmp_path / "gpu.toml"
    file.write_text(POLICY)
    return CliRunner().invoke(app, ["gpu", "check", "--policy", str(file)])


def test_the_command_prints_every_reason_with_its_remedy(driver: Driver, tmp_path: Path) -> None:
    driver.cc, driver.dev_tools = pynvml.NVML_CC_SYSTEM_FEATURE_DISABLED, DEVTOOLS
    done = checked(tmp_path)
    assert done.exit_code == 10
    assert "mode is off" in done.output and "DevTools" in done.output and "--set-cc-mode=on" in done.output


def test_the_command_lets_a_gpu_in_order_in(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = admission_module.admit
    monkeypatch.setattr(
        nvml_package,
        "admit",
        lambda *a: genuine(*a, nonce=lambda: CASE.nonce, now=lambda: CASE.at),
    )
    done = checked(tmp_path)
    assert done.exit_code == 0 and "evidence verified" in done.output


def test_the_command_says_when_gpus_cannot_be_asked(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.errors["nvmlInitWithFlags"] = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    done = checked(tmp_path)
    assert done.exit_code == 20 and "load the NVIDIA driver" in done.output
