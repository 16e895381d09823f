"""The security processor's side of the socket: two kinds of evidence, collateral, and refusals."""

import socket
from collections.abc import Sequence
from datetime import datetime, timedelta

from . import messages
from .chip import SnpProcessor
from .gpu import GpuIdentity
from .messages import (
    CollateralRequest,
    Frames,
    GpuMeasurementsRequest,
    MessageError,
    Request,
    SnpReportRequest,
)

_COLLATERAL_AGE = timedelta(hours=1)
_SEND_TIMEOUT = 5.0


class SecurityProcessor:
    """A chip and its GPUs: answers a worker's questions, whatever bytes they are."""

    def __init__(self, cpu: SnpProcessor, gpus: Sequence[GpuIdentity] = ()) -> None:
        self._cpu = cpu
        self._gpus = tuple(gpus)
        self._collateral: tuple[datetime, tuple[bytes, ...]] | None = None

    def answer(self, content: bytes) -> bytes:
        """The frame that answers the frame with this content; never raises."""
        try:
            request = messages.decode_request(content)
            return messages.encode_reply(messages.kind_of(request), self._parts(request))
        except (MessageError, ValueError) as error:
            return messages.encode_refusal(str(error))

    def _parts(self, request: Request) -> tuple[bytes, ...]:
        match request:
            case SnpReportRequest(report_data=data, vmpl=vmpl):
                return self._cpu.report(data, vmpl), *self._cpu.endorsements
            case GpuMeasurementsRequest(device=device, nonce=nonce):
                if device >= len(self._gpus):
                    raise ValueError(f"no device {device}: there are {len(self._gpus)}")
                return self._gpus[device].report(nonce), self._gpus[device].chain
            case CollateralRequest():
                return self._current_collateral()

    def _current_collateral(self) -> tuple[bytes, ...]:
        now = self._cpu.clock()
        if self._collateral is None or not timedelta() <= now - self._collateral[0] <= _COLLATERAL_AGE:
            ocsp = dict.fromkeys(item for gpu in self._gpus for item in gpu.ocsp())
            self._collateral = (now, (self._cpu.crl(), *ocsp))
        return self._collateral[1]


class Attendant:
    """Serves one socket for a security processor."""

    def __init__(self, end: socket.socket, processor: SecurityProcessor) -> None:
        self._end = end
        self._processor = processor
        self._frames = Frames(messages.MAX_REQUEST)
        end.settimeout(_SEND_TIMEOUT)

    def attend(self) -> bool:
        """Read what there is and answer it; False, and the socket closed, when nothing more can come.

        Called when the socket is readable. A frame that is too long, a peer that does not read its
        answers, or the end of the stream ends it.
        """
        try:
            data = self._end.recv(1 << 12)
            if data:
                for content in self._frames.feed(data):
                    self._end.sendall(self._processor.answer(content))
                return True
        except (OSError, MessageError):
            pass  # nothing that a worker sends may end the processor; its socket is closed below
        self._end.close()
        return False
