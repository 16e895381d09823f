"""What the host sees of a link: sizes, kinds, times, entropy, ciphertext. It needs no key, changes nothing.

The bus is a memfd named `cloister-bus`: every process that has it shows it in /proc/PID/fd, and root, or the
owner of one of those processes, opens it there.
"""

import math
import mmap
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from enclave.gpu.bus import NoBus
from enclave.gpu.bus.geometry import FIELD, LEAD, TAG, Class, Geometry, Side
from enclave.gpu.bus.host import NAME, described
from enclave.gpu.bus.rings import LAP_SHIFT, LAPS

from .kinds import LENGTH, SHIFT, Kind

SHOWN: Final = 24
SAMPLED: Final = 4096
PAUSE: Final = 0.0005
_LINK: Final = f"/memfd:{NAME} "


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One record as it lay in the memory: when (monotonic seconds), where, what its header says, its start.

    `entropy` is of the payload's first 4 KiB, in bits a byte; `best` what random bytes of that number would
    have at most.
    """

    at: float
    sender: Side
    ring: Class
    kind: str
    length: int
    entropy: float
    best: float
    start: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Found:
    """A bus that some process holds open."""

    pid: int
    path: Path
    inode: int


def find(pid: int | None = None) -> list[Found]:
    """Every bus whose holders this user may look into, each once; or those that `pid` holds."""
    found: dict[int, Found] = {}
    for directory in Path("/proc").glob(f"{pid or '[0-9]*'}/fd"):
        with suppress(OSError):  # the process ended, or is another user's
            for entry in directory.iterdir():
                if os.readlink(entry).startswith(_LINK):
                    inode = entry.stat().st_ino
                    found.setdefault(inode, Found(int(directory.parent.name), entry, inode))
    return sorted(found.values(), key=lambda each: each.pid)


def below(pid: int) -> list[Found]:
    """Every bus that a process started by `pid`, or by one of those, holds open."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process ended
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])

    def descends(child: int) -> bool:
        while child in parents:
            child = parents[child]
            if child == pid:
                return True
        return False

    return [each for each in find() if descends(each.pid)]


def the_bus(pid: int | None = None) -> Path:
    """Where the one bus is that `find` or `below` finds. Raises NoBus if there is none, or more than one."""
    found = find(pid)
    if pid is not None:
        found = found or below(pid)
        if not found:
            raise NoBus(f"process {pid} holds no bus, and none that it started does")
    if not found:
        raise NoBus("no process here holds a bus; start a worker, and watch as the same user or root")
    if len(found) > 1:
        raise NoBus(
            f"several buses: choose one with --pid {' or --pid '.join(str(each.pid) for each in found)}"
        )
    return found[0].path


class Watcher:
    """Reads a bus's memory. `look` gives what was published since it was last asked.

    A record that was overwritten before it was looked at is counted in `missed`, as far as the laps tell.
    """

    def __init__(self, memory: memoryview) -> None:
        """`memory` is the whole shared memory. Raises ValueError if it is no bus."""
        self._memory, self._fields = memory, memory.cast("I")
        self.geometry: Geometry = described(memory)
        self.missed = 0
        self._places = [
            (sender, ring, self.geometry.ring_at(sender, ring) + index * self.geometry.stride(ring))
            for sender in Side
            for ring in Class
            for index in range(self.geometry.slots(ring))
        ]
        self._last = {place: self._fields[place // FIELD] for _, _, place in self._places}

    @classmethod
    def of(cls, path: Path) -> Self:
        """The bus behind a path such as /proc/PID/fd/N. Raises NoBus."""
        try:
            number = os.open(path, os.O_RDONLY)
            try:
                return cls(memoryview(mmap.mmap(number, 0, prot=mmap.PROT_READ)))
            finally:
                os.close(number)
        except (OSError, ValueError) as error:
            raise NoBus(f"{path}: {error}") from None

    def everything(self) -> bytes:
        """The whole memory as it is now."""
        return bytes(self._memory)

    def look(self) -> list[Sighting]:
        """What is new, ring by ring."""
        now, seen = time.monotonic(), []
        for sender, ring, place in self._places:
            header = self._fields[place // FIELD]
            before = self._last[place]
            if header != before:
                self._last[place] = header
                self.missed += max(0, ((header >> LAP_SHIFT) - (before >> LAP_SHIFT)) % LAPS - 1)
                if header:
                    seen.append(self._sighting(now, sender, ring, place, header))
        return seen

    def _sighting(self, now: float, sender: Side, ring: Class, place: int, header: int) -> Sighting:
        length = min(header & LENGTH, self.geometry.capacity(ring))
        number = header >> SHIFT & 0xF
        protected = number > Kind.SPDM_MORE
        begin = place + LEAD
        payload = bytes(self._memory[begin : begin + min(length + (TAG if protected else 0), SAMPLED)])
        return Sighting(
            at=now,
            sender=sender,
            ring=ring,
            kind=Kind(number).name.lower() if number in list(Kind) else f"kind {number}",
            length=length,
            entropy=entropy(payload),
            best=math.log2(max(1, min(256, len(payload)))),
            start=payload[:SHOWN],
        )


class Recorder:
    """Watches on a thread of its own until closed: `seen` has the last `keep`, `total` counts all."""

    def __init__(self, watcher: Watcher, keep: int = 10_000, pause: float = PAUSE) -> None:
        self.seen: list[Sighting] = []
        self.total: Counter[tuple[Side, Class, str]] = Counter()
        self._watcher, self._keep, self._pause = watcher, keep, pause
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bus watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(self._pause):
            for one in self._watcher.look():
                self.total[one.sender, one.ring, one.kind] += 1
                self.seen.append(one)
            del self.seen[: -self._keep]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()


def entropy(data: bytes) -> float:
    """Shannon entropy in bits a byte."""
    if not data:
        return 0.0
    shares = [count / len(data) for count in Counter(data).values()]
    return abs(-sum(share * math.log2(share) for share in shares))


def row(one: Sighting, begin: float) -> str:
    """One line for a person."""
    arrow = "worker -> device" if one.sender is Side.WORKER else "device -> worker"
    return (
        f"{one.at - begin:8.3f} s  {arrow}  {one.ring.name.lower():7}  {one.kind:12}  {one.length:8} bytes  "
        f"entropy {one.entropy:.2f} of {one.best:.2f}  {one.start.hex()}"
    )


def windows(needle: bytes, haystacks: Iterable[bytes], size: int = 8) -> bool:
    """Whether any window of `size` bytes of `needle` occurs in what was seen."""
    wanted = {needle[at : at + size] for at in range(len(needle) - size + 1)}
    return any(window in stack for stack in haystacks for window in wanted)


def stream(watcher: Watcher, until: Callable[[], bool]) -> Iterator[list[Sighting]]:
    """Batches of what is new, as it comes, until told to stop."""
    while not until():
        seen = watcher.look()
        if seen:
            yield seen
        time.sleep(PAUSE)
