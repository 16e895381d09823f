"""The GPUs of the simulated machine: started from measured code, restarted when they end, each on a bus.

This is the host's part and the board's: it holds the bus memory, which protects itself, and the seed that is
burnt into each device. What a device signs with is made in the device's own process.
"""

import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from enclave.gpu.bus import Bus, Side

from .answering import Listener, SecurityProcessor
from .gpu import Mode

DEVICE: Final = "enclave.gpu.device.process"
PAUSE: Final = 1.0
Start = Callable[[str, socket.socket, tuple[int, ...], dict[str, Any]], "subprocess.Popen[bytes]"]
"""Starts a measured module with one end of a socket, more descriptors, and its settings."""


@dataclass(slots=True)
class Board:
    """One device: where it sits and what runs in it."""

    index: int
    code: bytes
    mode: Mode
    start: Start
    bus: Bus = field(default_factory=Bus.create)
    seed: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    process: "subprocess.Popen[bytes] | None" = None
    ended: int = -1
    listener: Listener | None = None
    end: socket.socket | None = None
    started: float = 0.0

    def power_on(self, processor: SecurityProcessor) -> None:
        """Start the device's process."""
        ours, theirs = socket.socketpair()
        settings = {
            "index": self.index,
            "code": self.code.hex(),
            "mode": self.mode.value,
            "seed": self.seed.hex(),
            "bus": list(self.bus.descriptors.numbers()),
        }
        with theirs:
            self.process = self.start(DEVICE, theirs, self.bus.descriptors.numbers(), settings)
        self.ended = os.pidfd_open(self.process.pid)
        self.end, self.listener = ours, Listener(ours, self.index, processor)
        self.started = time.monotonic()

    def power_off(self) -> None:
        """Kill the process, if it runs, and tell the other end of the bus."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            os.close(self.ended)
        if self.end is not None:
            self.end.close()
        self.process, self.ended, self.end, self.listener = None, -1, None, None
        self.bus.unplug(Side.DEVICE)


class Devices:
    """All devices. `sources` are what to select on; `attend` does what is due."""

    def __init__(self, count: int, code: bytes, mode: Mode, start: Start) -> None:
        self.boards = [Board(index, code, mode, start) for index in range(count)]

    def power_on(self, processor: SecurityProcessor) -> None:
        """Start those that are off and whose pause is over."""
        now = time.monotonic()
        for board in self.boards:
            if board.process is None and (not board.started or now - board.started > PAUSE):
                board.power_on(processor)

    def reset(self, index: int) -> None:
        """Switch one off; it is started again when its pause is over. ValueError if there is none."""
        if index >= len(self.boards):
            raise ValueError(f"no device {index}: there are {len(self.boards)}")
        self.boards[index].power_off()

    def sources(self) -> list[Any]:
        """What becomes readable when a device has something to say or has ended."""
        found: list[Any] = []
        for board in self.boards:
            found += [] if board.process is None else [board.ended]
            found += [] if board.end is None else [board.end]
        return found

    def attend(self, ready: set[Any]) -> None:
        """Hear chains, and notice devices that have ended."""
        for board in self.boards:
            if board.end in ready and board.listener is not None and not board.listener.attend():
                board.end = board.listener = None
            if board.process is not None and board.ended in ready:
                board.power_off()

    def power_off(self) -> None:
        """Kill all."""
        for board in self.boards:
            board.power_off()
            board.bus.close()
