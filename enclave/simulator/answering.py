"""The security processor's side of the socket: CPU evidence, collateral, resets of devices, and refusals."""

import socket
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from . import messages
from .chip import SnpProcessor
from .gpu import status
from .messages import (
    CollateralRequest,
    DeviceChain,
    Frames,
    MessageError,
    Request,
    ResetDevice,
    SnpReportRequest,
)

_COLLATERAL_AGE = timedelta(hours=1)
_SEND_TIMEOUT = 5.0


def no_reset(device: int) -> None:
    """For a processor without devices of its own."""
    raise ValueError(f"no device {device} to reset")


class SecurityProcessor:
    """A chip beside its GPUs: answers a worker's questions, whatever bytes they are.

    `chains` are the certificates that each device has told, PEM; `reset` restarts a device.
    """

    def __init__(
        self,
        cpu: SnpProcessor,
        chains: Mapping[int, bytes] | None = None,
        *,
        reset: Callable[[int], None] = no_reset,
    ) -> None:
        self._cpu = cpu
        self._chains = dict(chains or {})
        self._reset = reset
        self._collateral: tuple[datetime, tuple[bytes, ...]] | None = None

    def answer(self, content: bytes) -> bytes:
        """The frame that answers the frame with this content; never raises."""
        try:
            request = messages.decode_request(content)
            return messages.encode_reply(messages.kind_of(request), self._parts(request))
        except (MessageError, ValueError) as error:
            return messages.encode_refusal(str(error))

    def learn(self, device: int, chain: bytes) -> None:
        """Certificates of a device that has started. Raises ValueError for another's than a simulated one."""
        status(chain, self._cpu.clock)
        self._chains[device] = chain
        self._collateral = None

    def _parts(self, request: Request) -> tuple[bytes, ...]:
        match request:
            case SnpReportRequest(report_data=data, vmpl=vmpl):
                return self._cpu.report(data, vmpl), *self._cpu.endorsements
            case CollateralRequest():
                return self._current_collateral()
            case ResetDevice(device=device):
                self._reset(device)
                return ()
            case DeviceChain():
                raise ValueError("a worker has no chain to tell")

    def _current_collateral(self) -> tuple[bytes, ...]:
        now = self._cpu.clock()
        if self._collateral is None or not timedelta() <= now - self._collateral[0] <= _COLLATERAL_AGE:
            found = (item for chain in self._chains.values() for item in status(chain, self._cpu.clock))
            self._collateral = (now, (self._cpu.crl(), *dict.fromkeys(found)))
        return self._collateral[1]


class Listener:
    """Hears a device tell its chain, once."""

    def __init__(self, end: socket.socket, device: int, processor: SecurityProcessor) -> None:
        self._end = end
        self._device = device
        self._processor = processor
        self._frames = Frames(messages.MAX_REQUEST)

    def attend(self) -> bool:
        """Read what there is; False, and the socket closed, when the chain is known or never will be."""
        try:
            data = self._end.recv(1 << 16)
            frames = self._frames.feed(data) if data else []
            if data and not frames:
                return True
            for content in frames:
                request = messages.decode_request(content)
                if isinstance(request, DeviceChain) and request.device == self._device:
                    self._processor.learn(self._device, request.chain)
        except (OSError, MessageError, ValueError):
            pass  # nothing that a device sends may end the processor
        self._end.close()
        return False


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
