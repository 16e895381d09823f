"""A host that offers a GPU which must not be trusted (THREAT_MODEL.md, G15 and G16)."""

from collections.abc import Iterator

import pytest

from attestation import Collateral
from enclave.gpu.nvml import GpuRefused, GpuUnavailable, Nvml, admit
from tests.attestation.nvidia import case, policy
from tests.gpu.nvml.fake import Driver, install, pynvml

CASE, OTHER = case("nvidia-gpu/h100-550"), case("nvidia-gpu/h100-590-ppcie")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    made = Driver(CASE.report, CASE.chain)
    install(made, monkeypatch)
    yield made


def let_in(nonce: bytes | None = CASE.nonce) -> None:
    with Nvml.open() as nvml:
        admit(nvml, policy(), Collateral(), nonce=lambda: nonce or b"", now=lambda: CASE.at)


def test_g15_a_gpu_outside_confidential_mode_gets_no_secrets(driver: Driver) -> None:
    let_in()  # the control: as it was captured, it is let in
    for name, value in (
        ("cc", pynvml.NVML_CC_SYSTEM_FEATURE_DISABLED),
        ("dev_tools", pynvml.NVML_CC_SYSTEM_DEVTOOLS_MODE_ON),
        ("environment", pynvml.NVML_CC_SYSTEM_ENVIRONMENT_SIM),
        ("multi_gpu", pynvml.NVML_CC_SYSTEM_MULTIGPU_PROTECTED_PCIE),
    ):
        before = getattr(driver, name)
        driver.ready = pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE
        setattr(driver, name, value)
        with pytest.raises(GpuRefused):
            let_in()
        assert driver.ready == pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE
        setattr(driver, name, before)


def test_g16_replayed_or_spliced_gpu_evidence_gets_no_secrets(driver: Driver) -> None:
    with pytest.raises(GpuUnavailable, match="another nonce"):
        let_in(bytes(32))
    driver.chain = OTHER.chain
    with pytest.raises(GpuRefused, match="signature"):
        let_in()
    driver.report, driver.chain = OTHER.report, OTHER.chain  # genuine, in a mode that the driver hides
    with pytest.raises((GpuRefused, GpuUnavailable)):
        let_in(OTHER.nonce)
