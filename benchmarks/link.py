"""What the encrypted GPU link costs, against raw AES-256-GCM on the same cores, in the same run.

Two processes: this one sends as the worker does, benchmarks/link_device.py is the device. Every ratio is the
median over rounds that interleave both sides. CPU time counts both processes, waiting included.

    python -m benchmarks.link [--rounds N] [--json FILE]
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.link_device import BURST, CPU, STEP, connect, work
from benchmarks.report import Figure, at_least, at_most, parser, publish
from enclave.gpu.bus import Bus, BusEnd, Geometry, Side
from enclave.gpu.link import CopyWorker, Link, Toll

KIB = 1024
TOTAL = 16 * KIB * KIB
SIZES = {
    4 * KIB: (64, 0.60, 0.75),
    64 * KIB: (16, 0.75, 0.93),
    256 * KIB: (8, 0.85, 0.93),
    1024 * KIB: (4, 0.85, 0.93),
}
NONCE, DATA = bytes(12), bytes(32)
STEPS = 100
ORDER = 64


@contextmanager
def linked(
    part: str, geometry: Geometry | None = None, toll: Toll | None = None
) -> Iterator[tuple[Link, BusEnd]]:
    """This process's end of a link to a device that plays `part`."""
    geometry = geometry or Geometry()
    with ExitStack() as stack:
        bus = stack.enter_context(Bus.create(geometry))
        orders = {"descriptors": bus.descriptors.numbers(), "geometry": asdict(geometry), "part": part}
        command = [sys.executable, "-m", "benchmarks.link_device", json.dumps(orders)]
        process = subprocess.Popen(command, pass_fds=bus.descriptors.numbers())
        stack.callback(process.wait)
        end = stack.enter_context(BusEnd(bus.descriptors, Side.WORKER, geometry))
        yield stack.enter_context(connect(end, toll)), end


def spent(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the wall and of this process's CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


class Bulk:
    """Objects of 16 MiB in chunks of one size: over the link, in lock-step over it, and raw."""

    def __init__(self, link: Link, end: BusEnd, chunk: int) -> None:
        source = memoryview(bytearray(TOTAL))
        self.views = [source[at : at + chunk] for at in range(0, TOTAL, chunk)]
        self.link, self.end = link, end
        self.key, self.out = AESGCM(bytes(32)), memoryview(bytearray(chunk + 16))
        arena = memoryview(bytearray(TOTAL))
        self.plain = [arena[at : at + chunk] for at in range(0, TOTAL, chunk)]
        self.device = 0.0

    def pipelined(self) -> None:
        """As a load sends it."""
        self._send(iter(self.views))

    def lockstep(self) -> None:
        """The next chunk is sealed only when the last was opened."""
        self._send(self._one_by_one())

    def seal(self) -> None:
        """AES-256-GCM alone, one way."""
        for view in self.views:
            self.key.encrypt_into(NONCE, view, DATA, self.out)

    def open(self) -> None:
        """AES-256-GCM alone, the other way, into memory as large as the device's."""
        self.key.encrypt_into(NONCE, self.views[0], DATA, self.out)
        for plain in self.plain:
            self.key.decrypt_into(NONCE, self.out, DATA, plain)

    def device_cpu(self) -> float:
        """CPU seconds of the device since last asked."""
        before, self.device = self.device, self._now
        return self.device - before

    def _send(self, views: Iterator[memoryview]) -> None:
        self.link.send_bulk(views)
        (self._now,) = CPU.unpack(self.link.receive()[1])

    def _one_by_one(self) -> Iterator[memoryview]:
        for view in self.views:
            yield view
            self.end.bulk_out.drain(20.0)


def throughput(chunk: int, rounds: int) -> list[Figure]:
    """One chunk size: share of raw by wall and by CPU, gain over lock-step."""
    slots, wall_goal, cpu_goal = SIZES[chunk]
    walls, cpus, gains, rates = [], [], [], []
    with linked("bulk", Geometry(bulk_slots=slots, bulk_bytes=chunk)) as (link, end):
        bulk = Bulk(link, end, chunk)
        bulk.pipelined()
        bulk.device_cpu()
        for _ in range(rounds):
            raw = spent(bulk.seal)
            back = spent(bulk.open)
            ours = spent(bulk.pipelined)
            both = ours[1] + bulk.device_cpu()
            steps = spent(bulk.lockstep)
            bulk.device_cpu()
            walls.append(raw[0] / ours[0])
            cpus.append((raw[1] + back[1]) / both)
            gains.append(steps[0] / ours[0])
            rates.append(TOTAL / ours[0] / 1e9)
    name = f"{chunk // KIB} KiB"
    return [
        at_most(f"{name}: throughput", statistics.median(rates), "GB/s"),
        at_least(f"{name}: share of raw AES-GCM, wall", statistics.median(walls), "ratio", wall_goal),
        at_least(f"{name}: share of raw AES-GCM, CPU", statistics.median(cpus), "ratio", cpu_goal),
        *(
            [at_least(f"{name}: over lock-step", statistics.median(gains), "ratio", 1.8)]
            if chunk >= 256 * KIB
            else []
        ),
    ]


def small_messages(rounds: int) -> list[Figure]:
    """64 bytes, CPU a side, over the bare AEAD."""
    key, message = AESGCM(bytes(32)), bytes(64)
    out, plain = memoryview(bytearray(80)), memoryview(bytearray(64))
    sends, receives, mine = [], [], []

    def repeat(call: Callable[[], object]) -> float:
        return spent(lambda: [call() for _ in range(BURST)])[1]

    with linked("bursts") as (link, _):
        for _ in range(rounds * 20):
            seal = repeat(lambda: key.encrypt_into(NONCE, message, DATA, out))
            unseal = repeat(lambda: key.decrypt_into(NONCE, out, DATA, plain))
            link.send(message)
            ours = repeat(lambda: link.send(message))
            (theirs,) = CPU.unpack(link.receive()[1])
            sends.append(ours / seal)
            receives.append(theirs / unseal)
            mine.append(1e6 * ours / BURST)
    return [
        at_most("64 B: sending", statistics.median(mine), "us"),
        at_most("64 B: sending / bare AEAD, CPU", statistics.median(sends), "ratio", 1.6),
        at_most("64 B: receiving / bare AEAD, CPU", statistics.median(receives), "ratio", 1.6),
    ]


class Steps:
    """Decode steps of `seconds` each on a stand-in engine: in this process, or on the device.

    Negative: the engine waits for so long instead of computing, so that CPU time is the link's alone.
    """

    def __init__(self, seconds: float) -> None:
        self.order = STEP.pack(seconds) + bytes(ORDER - STEP.size)
        self.seconds = seconds

    def here(self) -> None:
        """In this process."""
        for _ in range(STEPS):
            work(self.seconds)

    def one_by_one(self, link: Link) -> None:
        """Ask for a step when the last one's tokens are here."""
        for _ in range(STEPS):
            link.send(self.order)
            link.receive()

    def ahead(self, link: Link | CopyWorker, depth: int = 2) -> None:
        """Keep `depth` steps asked for: the device has the tokens that the next step needs."""
        for _ in range(depth):
            link.send(self.order)
        for index in range(STEPS):
            link.receive()
            if index < STEPS - depth:
                link.send(self.order)


def _device_cpu(link: Link) -> float:
    link.send(b"?")
    return float(CPU.unpack(link.receive()[1])[0])


def decoding(rounds: int) -> list[Figure]:
    """Tokens a second of a link over the same engine in this process; CPU that a step costs more."""
    steps, waiting = Steps(0.001), Steps(-0.001)
    serial, piped, added = [], [], []
    with linked("steps") as (link, _):
        steps.one_by_one(link)
        for _ in range(rounds):
            plain = spent(steps.here)[0]
            serial.append(plain / spent(lambda: steps.one_by_one(link))[0])
            piped.append(plain / spent(lambda: steps.ahead(link))[0])
            before = _device_cpu(link)
            ours = spent(lambda: waiting.ahead(link))[1] + _device_cpu(link) - before
            added.append(1e6 * (ours - spent(waiting.here)[1]) / STEPS)
    return [
        at_least("steps of 1 ms: tokens/s over in-process", statistics.median(piped), "ratio", 0.97),
        at_most("steps of 1 ms, one at a time: over in-process", statistics.median(serial), "ratio"),
        at_most("a decode step: CPU added, both ends", statistics.median(added), "us", 10.0),
    ]


def tolled(rounds: int) -> list[Figure]:
    """The toll of confidential hardware: how much of what it costs a copy worker gets back."""
    steps = Steps(0.001)
    recovered, slowed = [], []
    with ExitStack() as stack:
        free, _ = stack.enter_context(linked("steps"))
        link, _ = stack.enter_context(linked("steps", toll=Toll()))
        second, _ = stack.enter_context(linked("steps", toll=Toll()))
        copies = stack.enter_context(CopyWorker(second))
        for _ in range(rounds):
            plain = spent(lambda: steps.one_by_one(free))[0]
            slow = spent(lambda: steps.one_by_one(link))[0]
            piped = spent(lambda: steps.ahead(copies, 3))[0]
            recovered.append((slow - piped) / (slow - plain))
            slowed.append(plain / slow)
    return [
        at_most("toll, one step at a time: tokens/s over no toll", statistics.median(slowed), "ratio"),
        at_least(
            "toll: share of the gap that pipelining recovers", statistics.median(recovered), "ratio", 0.8
        ),
    ]


def main() -> None:
    """Measure and publish."""
    options = parser(__doc__ or "", rounds=15).parse_args()
    figures = [figure for chunk in SIZES for figure in throughput(chunk, options.rounds)]
    figures += small_messages(options.rounds)
    figures += decoding(options.rounds)
    figures += tolled(options.rounds)
    publish("link", figures, options.json)


if __name__ == "__main__":
    main()
