"""NVML behind one class: every call's failure has a name and a remedy, every reply is bounded.

The library is nvidia-ml-py's module, or anything that answers like it.
"""

import ctypes
from typing import Any, Final, Self

from .errors import GpuUnavailable
from .state import ConfidentialState

MAX_REPORT: Final = 0x2000
MAX_CHAIN: Final = 0x1400
_UPDATE: Final = (
    "update the NVIDIA driver and nvidia-ml-py: confidential computing needs a 550 driver or later"
)
_RESET: Final = "reset the GPU from the host, or restart this machine"
REMEDIES: Final = {
    1: "open NVML before it is asked",
    2: "this driver does not take what was asked; update driver and nvidia-ml-py together",
    3: "this GPU, or the mode it is in, does not offer it: confidential computing needs a Hopper or Blackwell"
    " GPU that was put into CC mode from the host",
    4: "run as root, or give this user access to /dev/nvidiactl and the GPU's capabilities",
    6: "the GPU is not there: check `nvidia-smi -L`",
    8: "attach the GPU's external power",
    9: "load the NVIDIA driver in this machine; `nvidia-smi` must work first",
    10: "the GPU did not answer in time; try again, then reset it",
    12: "install the NVIDIA driver, which brings libnvidia-ml.so.1",
    13: _UPDATE,
    15: _RESET,
    16: _RESET,
    18: "kernel module and libraries of the driver differ: reload the module or restart this machine",
    19: "another process holds the GPU; stop it",
    20: "this machine is out of memory",
    25: _UPDATE,
    27: "the GPU is still starting; try again in a minute",
    28: "the GPU is not there: check `nvidia-smi -L`",
    29: _RESET,
    999: "asked for evidence, a GPU out of CC mode answers so: `cloister gpu check` names its mode; else see"
    " `nvidia-smi -q` and the kernel log",
}
_OTHER: Final = "see `nvidia-smi -q` and the kernel log"


class Nvml:
    """An open NVML. Use it as a context manager, or close it. Any method may raise GpuUnavailable."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._call("nvmlInit")

    @classmethod
    def open(cls) -> Self:
        """nvidia-ml-py over the driver's library. Raises GpuUnavailable where either is missing."""
        try:
            import pynvml
        except ImportError:
            raise GpuUnavailable("nvidia-ml-py is missing", "pip install 'cloister[nvidia]'") from None
        return cls(pynvml)

    def close(self) -> None:
        """Let go of it."""
        self._call("nvmlShutdown")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def driver(self) -> str:
        """The driver's version, such as "580.95.05"."""
        return _text(self._call("nvmlSystemGetDriverVersion"))

    def count(self) -> int:
        """How many GPUs this machine has."""
        return int(self._call("nvmlDeviceGetCount"))

    def handle(self, index: int) -> Any:
        """What the other calls name GPU `index` by."""
        return self._call("nvmlDeviceGetHandleByIndex", index)

    def name(self, handle: Any) -> str:
        """Such as "NVIDIA H100 80GB HBM3"."""
        return _text(self._call("nvmlDeviceGetName", handle))

    def vbios(self, handle: Any) -> str:
        """The VBIOS version."""
        return _text(self._call("nvmlDeviceGetVbiosVersion", handle))

    def state(self) -> ConfidentialState:
        """The machine's confidential-computing settings. GPUs without any say that CC is off."""
        try:
            mode = self._call("nvmlSystemGetConfComputeState")
        except GpuUnavailable as error:
            if error.code == 3:  # not supported: a GPU that knows no confidential mode
                return ConfidentialState.none()
            raise
        return ConfidentialState(
            capable=True,
            enabled=mode.ccFeature == self._library.NVML_CC_SYSTEM_FEATURE_ENABLED,
            dev_tools=mode.devToolsMode != self._library.NVML_CC_SYSTEM_DEVTOOLS_MODE_OFF,
            production=mode.environment == self._library.NVML_CC_SYSTEM_ENVIRONMENT_PROD,
            simulation=mode.environment == self._library.NVML_CC_SYSTEM_ENVIRONMENT_SIM,
            multi_gpu=self._multi_gpu(),
            ready=self.ready(),
        )

    def ready(self) -> bool:
        """Whether the GPUs accept work: after a boot in CC mode they do not until told to."""
        state = self._call("nvmlSystemGetConfComputeGpusReadyState")
        return bool(state == self._library.NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE)

    def set_ready(self, ready: bool) -> None:
        """Have the GPUs accept work, or refuse it."""
        library = self._library
        yes, no = (
            library.NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE,
            library.NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE,
        )
        self._call("nvmlSystemSetConfComputeGpusReadyState", yes if ready else no)

    def report(self, handle: Any, nonce: bytes) -> bytes:
        """The GPU's attestation report for a nonce of 32 bytes, as it came."""
        answer = self._call("nvmlDeviceGetConfComputeGpuAttestationReport", handle, nonce)
        return _cut(
            "an attestation report", answer.attestationReport, answer.attestationReportSize, MAX_REPORT
        )

    def chain(self, handle: Any) -> bytes:
        """The certificates behind that report, PEM."""
        answer = self._call("nvmlDeviceGetConfComputeGpuCertificate", handle)
        size = answer.attestationCertChainSize
        return _cut("a certificate chain", answer.attestationCertChain, size, MAX_CHAIN)

    def _multi_gpu(self) -> int:
        """0, or the number of a mode in which GPUs trust a fabric between them (1: protected PCIe)."""
        settings = self._library.c_nvmlSystemConfComputeSettings_v1_t()
        try:
            code = self._call("nvmlSystemGetConfComputeSettings", ctypes.byref(settings))
            if code:
                raise self._failure("nvmlSystemGetConfComputeSettings", code)
        except GpuUnavailable as error:
            if error.code == 13:  # a driver from before there were such modes
                return 0
            raise
        return int(settings.multiGpuMode)

    def _call(self, name: str, *arguments: Any) -> Any:
        function = getattr(self._library, name, None)
        if function is None:
            raise GpuUnavailable(f"nvidia-ml-py has no {name}", _UPDATE)
        try:
            return function(*arguments)
        except self._library.NVMLError as error:
            raise self._failure(name, int(getattr(error, "value", 999))) from None
        except self._library.NVMLLibraryMismatchError as error:
            raise GpuUnavailable(f"{name}: {error}", _UPDATE) from None

    def _failure(self, name: str, code: int) -> GpuUnavailable:
        what = f"{name} failed with NVML error {code}"
        return GpuUnavailable(what, REMEDIES.get(code, _OTHER), code)


def _cut(what: str, content: Any, size: int, most: int) -> bytes:
    """The first `size` bytes of a reply's buffer, which says itself how many are valid."""
    if not 0 < size <= min(most, len(content)):
        raise GpuUnavailable(f"the GPU answered with {what} of {size} bytes", _RESET)
    return bytes(content[:size])


def _text(value: str | bytes) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value
