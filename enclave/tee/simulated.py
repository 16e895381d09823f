"""Evidence from the simulated security processor, over the socket that it handed to the worker."""

import socket
import threading
from types import MappingProxyType

from attestation import Collateral, CpuEvidence, Kind
from enclave.simulator import messages
from enclave.simulator.messages import (
    CollateralRequest,
    Frames,
    MessageError,
    Refused,
    Request,
    ResetDevice,
    SnpReportRequest,
)

from .interface import EvidenceUnavailable

TIMEOUT = 10.0
_REMEDY = "the worker has lost its security processor: restart it with `cloister serve`"


class ProcessorLink:
    """The worker's end of the socket: one question at a time, from any thread.

    A link that failed once stays closed, since a late answer could be taken for another's.
    """

    def __init__(self, end: socket.socket, *, timeout: float = TIMEOUT) -> None:
        self._end: socket.socket | None = end
        self._lock = threading.Lock()
        end.settimeout(timeout)

    def ask(self, request: Request) -> tuple[bytes, ...]:
        """The parts of the answer. Raises EvidenceUnavailable."""
        with self._lock:
            if self._end is None:
                raise EvidenceUnavailable(_REMEDY)
            try:
                self._end.sendall(messages.encode_request(request))
                content = self._receive(self._end)
                return messages.decode_reply(content, messages.kind_of(request))
            except Refused as refusal:
                raise EvidenceUnavailable(f"the security processor refused: {refusal}") from None
            except (OSError, MessageError) as error:  # a timeout is an OSError
                self._close()
                raise EvidenceUnavailable(f"{_REMEDY} ({error or type(error).__name__})") from None

    def reset(self, device: int) -> None:
        """Have the machine restart a device. Raises EvidenceUnavailable."""
        self.ask(ResetDevice(device))

    def close(self) -> None:
        """Let go of the processor, which takes that for the worker's end if it has ended."""
        with self._lock:
            self._close()

    def _receive(self, end: socket.socket) -> bytes:
        frames = Frames(messages.MAX_REPLY)
        while True:
            data = end.recv(1 << 16)
            if not data:
                raise MessageError("it hung up")
            found = frames.feed(data)
            if len(found) > 1:
                raise MessageError("two answers to one question")
            if found:
                return found[0]

    def _close(self) -> None:
        if self._end is not None:
            self._end.close()
            self._end = None


class SimulatedCpu:
    """The simulated SEV-SNP guest. Implements `CpuTee`."""

    tee = "sev-snp"

    def __init__(self, link: ProcessorLink) -> None:
        self._link = link

    def report(self, report_data: bytes) -> CpuEvidence:
        """A report at VMPL 0 with the chip's certificates."""
        report, *endorsements = _at_least(1, self._link.ask(SnpReportRequest(report_data)))
        return CpuEvidence(tee=self.tee, report=report, endorsements=tuple(endorsements))


class SimulatedCollateral:
    """The simulated vendors' servers. Implements `CollateralSource`."""

    def __init__(self, link: ProcessorLink) -> None:
        self._link = link

    def current(self) -> Collateral:
        """The ARK's revocation list and a status response for every device's certificates."""
        crl, *ocsp = _at_least(1, self._link.ask(CollateralRequest()))
        return Collateral(MappingProxyType({Kind.AMD_CRL: (crl,), Kind.NVIDIA_OCSP: tuple(ocsp)}))


def _at_least(count: int, parts: tuple[bytes, ...]) -> tuple[bytes, ...]:
    if len(parts) < count:
        raise EvidenceUnavailable(f"the security processor sent {len(parts)} parts; {_REMEDY}")
    return parts
