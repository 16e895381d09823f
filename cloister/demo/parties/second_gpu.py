"""Another genuine GPU of the operator's (as genuine as simulated ones are), which signs what it is asked."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from attestation import DeviceEvidence
from enclave.gpu.device.attested import unjudged
from enclave.gpu.device.firmware import responder
from enclave.simulator.gpu import GpuIdentity, status


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class SecondGpu:
    """A GPU with the firmware `code` (48 bytes) of the first, a serial number and keys of its own."""

    identity: GpuIdentity
    clock: Callable[[], datetime] = _now

    @classmethod
    def with_firmware(cls, code: bytes, clock: Callable[[], datetime] = _now) -> "SecondGpu":
        """A new one."""
        return cls(GpuIdentity(code, 1), clock)

    def evidence(self, nonce: bytes) -> DeviceEvidence:
        """What it signs for a nonce of 32 bytes."""
        return unjudged(responder(self.identity).respond).report(nonce)

    def status(self) -> tuple[bytes, ...]:
        """The vendor's word of today that its certificates are good."""
        return status(self.identity.chain, self.clock)
