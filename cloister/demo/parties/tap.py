"""The operator's tap on the bus between CPU and GPU: every record that crosses, copied as it lies there."""

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

from enclave.gpu.bus import NoBus
from enclave.gpu.bus.geometry import LEAD, TAG, Class, Side
from enclave.gpu.link.kinds import LENGTH
from enclave.gpu.link.watch import Sighting, Watcher, below

LOOK_FOR_BUS = 0.05
BUSY, IDLE = 0.0005, 0.02
"""Pauses between two looks, while something crosses and when nothing has for a while; seconds."""
QUIET_AFTER = 2.0
KEPT = 256 * 1024 * 1024


class Copying(Watcher):
    """A watcher that keeps whole records; nothing more once 256 MiB are kept."""

    def __init__(self, memory: memoryview) -> None:
        super().__init__(memory)
        self.kept = bytearray()
        self.total: Counter[str] = Counter()

    def _sighting(self, now: float, sender: Side, ring: Class, place: int, header: int) -> Sighting:
        seen = super()._sighting(now, sender, ring, place, header)
        size = min(header & LENGTH, self.geometry.capacity(ring)) + TAG
        self.total["spdm" if seen.kind.startswith("spdm") else seen.kind] += 1
        if len(self.kept) < KEPT:
            self.kept += self._memory[place + LEAD : place + LEAD + size]
        return seen


class Tap:
    """Finds the bus of a machine that is starting, and copies what crosses it until it is closed."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._watcher: Copying | None = None
        self._last: list[Sighting] = []
        self._told = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bus tap", daemon=True)
        self._thread.start()

    def save(self, path: Path) -> dict[str, Any]:
        """Write down all that was copied; how many records it is, by kind, and how many were missed."""
        watcher = self._watcher
        path.write_bytes(bytes(watcher.kept) if watcher else b"")
        total = dict(watcher.total) if watcher else {}
        missed = watcher.missed if watcher else 0
        return {"file": str(path), "bytes": path.stat().st_size, "records": total, "missed": missed}

    def news(self) -> dict[str, Any] | None:
        """What crossed since this was last asked: how many records, the first bytes of the latest."""
        watcher = self._watcher
        count = watcher.total.total() if watcher else 0
        if count == self._told or not self._last:
            return None
        told, self._told = self._told, count
        return {"records": count - told, "hex": self._last[-1].start.hex()}

    def close(self) -> None:
        """Stop watching."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while self._watcher is None and not self._closing.wait(LOOK_FOR_BUS):
            self._watcher = self._found()
        last = time.monotonic()
        while self._watcher is not None:
            if seen := self._watcher.look():
                self._last, last = seen, time.monotonic()
            if self._closing.wait(BUSY if time.monotonic() - last < QUIET_AFTER else IDLE):
                return

    def _found(self) -> Copying | None:
        try:
            buses = below(self._pid)
            return Copying.of(buses[0].path) if buses else None
        except (NoBus, OSError):  # it is not made yet, or its process has just ended
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
