"""Another genuine GPU of the operator's (as genuine as simulated ones are), which signs what it is asked."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from attestation import DeviceEvidence
from enclave.simulator.gpu import GpuIdentity

TEE = "nvidia-gpu"


@dataclass(frozen=True, slots=True)
class SecondGpu:
    """A GPU with the firmware `code` (48 bytes) of the first, a serial number and keys of its own."""

    identity: GpuIdentity

    @classmethod
    def with_firmware(
        cls, code: bytes, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> "SecondGpu":
        """A new one."""
        return cls(GpuIdentity(code, 1, clock=clock))

    def evidence(self, nonce: bytes) -> DeviceEvidence:
        """What it signs for a nonce of 32 bytes."""
        return DeviceEvidence(tee=TEE, report=self.identity.report(nonce), chain=self.identity.chain)

    def status(self) -> tuple[bytes, ...]:
        """The vendor's word of today that its certificates are good."""
        return self.identity.ocsp()
