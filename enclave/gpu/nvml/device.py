"""One NVIDIA GPU as a producer of evidence."""

import threading
from typing import Any, Final

from attestation import DeviceEvidence, MalformedEvidence
from attestation.nvidia import GpuReport

from .errors import GpuUnavailable
from .library import Nvml

_NONCE: Final = 32


class NvmlGpu:
    """GPU number `index` behind NVML. Implements `enclave.tee.interface.Device`."""

    tee = "nvidia-gpu"

    def __init__(self, nvml: Nvml, index: int) -> None:
        self._nvml = nvml
        self._handle: Any = nvml.handle(index)
        self._lock = threading.Lock()
        self.index = index
        self.name, self.vbios = nvml.name(self._handle), nvml.vbios(self._handle)

    def report(self, nonce: bytes) -> DeviceEvidence:
        """Signed measurements for a nonce of 32 bytes, and the device's chain. Raises EvidenceUnavailable.

        Only that the GPU answered this nonce is checked; the rest is the verifier's.
        """
        if len(nonce) != _NONCE:
            raise ValueError(f"a nonce has {_NONCE} bytes")
        with self._lock:
            report, chain = self._nvml.report(self._handle, nonce), self._nvml.chain(self._handle)
        try:
            answered = GpuReport.from_bytes(report).request.nonce
        except MalformedEvidence as error:
            raise GpuUnavailable(f"GPU {self.index} sent a report that does not parse", str(error)) from None
        if answered != nonce:
            raise GpuUnavailable(
                f"GPU {self.index} answered another nonce than it was asked",
                "somebody may be replaying evidence; restart the machine, and distrust the driver",
            )
        return DeviceEvidence(tee=self.tee, report=report, chain=chain)

    def __repr__(self) -> str:
        return f"<NvmlGpu {self.index}: {self.name}>"
