"""A driver's library that is none: it stands below nvidia-ml-py and answers with genuine, captured evidence.

nvidia-ml-py itself runs unchanged: structures, sizes and error codes are its own.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed (extra nvidia)")


@dataclass
class Driver:
    """What the machine is like. `errors` gives functions an NVML error code instead of an answer."""

    report: bytes
    chain: bytes
    gpus: int = 1
    cc: int = pynvml.NVML_CC_SYSTEM_FEATURE_ENABLED
    dev_tools: int = pynvml.NVML_CC_SYSTEM_DEVTOOLS_MODE_OFF
    environment: int = pynvml.NVML_CC_SYSTEM_ENVIRONMENT_PROD
    multi_gpu: int = pynvml.NVML_CC_SYSTEM_MULTIGPU_NONE
    ready: int = pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE
    stubborn: bool = False
    name: str = "NVIDIA H100 80GB HBM3"
    vbios: str = "96.00.9F.00.01"
    version: str = "550.90.07"
    report_size: int | None = None
    chain_size: int | None = None
    errors: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    nonces: list[bytes] = field(default_factory=list)

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.startswith("nvml"):
            raise AttributeError(name)
        answer = getattr(Driver, f"_{name}", None)
        if answer is None or self.errors.get(name) == pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise AttributeError(name)

        def function(*arguments: Any) -> int:
            self.calls.append(name)
            if name in self.errors:
                return self.errors[name]
            answer(self, *arguments)
            return int(pynvml.NVML_SUCCESS)

        return function

    def _nvmlInitWithFlags(self, _flags: int) -> None: ...

    def _nvmlShutdown(self) -> None: ...

    def _nvmlDeviceGetCount_v2(self, count: Any) -> None:
        count._obj.value = self.gpus

    def _nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> None: ...

    def _nvmlDeviceGetName(self, _handle: Any, name: Any, _size: Any) -> None:
        name.value = self.name.encode()

    def _nvmlDeviceGetVbiosVersion(self, _handle: Any, version: Any, _size: Any) -> None:
        version.value = self.vbios.encode()

    def _nvmlSystemGetDriverVersion(self, version: Any, _size: Any) -> None:
        version.value = self.version.encode()

    def _nvmlSystemGetConfComputeState(self, state: Any) -> None:
        state._obj.ccFeature, state._obj.devToolsMode = self.cc, self.dev_tools
        state._obj.environment = self.environment

    def _nvmlSystemGetConfComputeSettings(self, settings: Any) -> None:
        assert settings._obj.version == pynvml.nvmlSystemConfComputeSettings_v1
        settings._obj.multiGpuMode = self.multi_gpu

    def _nvmlSystemGetConfComputeGpusReadyState(self, state: Any) -> None:
        state._obj.value = self.ready

    def _nvmlSystemSetConfComputeGpusReadyState(self, state: Any) -> None:
        if not self.stubborn:
            self.ready = state.value

    def _nvmlDeviceGetConfComputeGpuAttestationReport(self, _handle: Any, reply: Any) -> None:
        self.nonces.append(bytes(reply._obj.nonce))
        size = len(self.report) if self.report_size is None else self.report_size
        reply._obj.attestationReportSize = size
        reply._obj.attestationReport[: len(self.report)] = self.report

    def _nvmlDeviceGetConfComputeGpuCertificate(self, _handle: Any, reply: Any) -> None:
        size = len(self.chain) if self.chain_size is None else self.chain_size
        reply._obj.attestationCertChainSize = size
        reply._obj.attestationCertChain[: len(self.chain)] = self.chain


def recorded(name: str) -> Driver:
    """The driver that answers as a real one was seen to; no evidence came from it."""
    facts = json.loads((Path(__file__).parent / f"{name}.json").read_text())
    return Driver(report=b"", chain=b"", **facts["driver"])


def install(driver: Driver, patch: pytest.MonkeyPatch) -> None:
    """Have nvidia-ml-py find this driver's library loaded."""
    patch.setattr(pynvml, "nvmlLib", driver)
    patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
