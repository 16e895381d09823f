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

from benchmarks.link_device import BURST, CPU, PAIR, connect, cpu_of
from benchmarks.paced import NoFiles, PacedEngine
from benchmarks.report import Figure, at_least, at_most, parser, publish
from enclave.engine.interface import Engine, EngineOptions, GenerationRequest, Sampling
from enclave.gpu.bus import Bus, BusEnd, Geometry, Side
from enclave.gpu.device.engine import DeviceEngine
from enclave.gpu.link import Link, Toll

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
    """64 bytes, CPU a side, over the bare AEAD in the same process."""
    key, message, out = AESGCM(bytes(32)), bytes(64), memoryview(bytearray(80))
    sends, receives, mine = [], [], []
    with linked("bursts") as (link, _):
        for _ in range(rounds * 20):
            link.send(message)
            bare = cpu_of(lambda: key.encrypt_into(NONCE, message, DATA, out))
            ours = cpu_of(lambda: link.send(message))
            theirs, theirs_bare = PAIR.unpack(link.receive()[1])
            sends.append(ours / bare)
            receives.append(theirs / theirs_bare)
            mine.append(1e6 * ours / BURST)
    return [
        at_most("64 B: sending", statistics.median(mine), "us"),
        at_most("64 B: sending / bare AEAD, CPU", statistics.median(sends), "ratio", 1.6),
        at_most("64 B: receiving / bare AEAD, CPU", statistics.median(receives), "ratio", 1.6),
    ]


class Engines:
    """One request of so many tokens, each a step, on an engine whose step takes `seconds`.

    Negative: the engine waits for so long instead of computing, so that CPU time is the link's alone.
    """

    def __init__(self, seconds: float) -> None:
        self.model = NoFiles(str(seconds))
        self.here = PacedEngine(self.model, EngineOptions())
        self.number = 0

    def there(self, link: Link, ahead: int | None) -> DeviceEngine:
        """The same engine on the device behind `link`."""
        engine = DeviceEngine(ahead=ahead)
        engine.attach(link)
        engine.load_model(self.model, EngineOptions())
        return engine

    def run(self, engine: Engine) -> None:
        """From the first step to the last."""
        self.number += 1
        sampling = Sampling(temperature=0.0)
        engine.submit(
            GenerationRequest(
                id=str(self.number), prompt=(1, 2, 3), sampling=sampling, max_tokens=STEPS, eos=frozenset()
            )
        )
        while engine.has_work():
            engine.step()


def _device_cpu(link: Link) -> float:
    return float(CPU.unpack(link.exchange_spdm(b"?"))[0])


def decoding(rounds: int) -> list[Figure]:
    """Tokens a second on the device over the same engine in this process; CPU that a step costs more."""
    steps, waiting = Engines(0.001), Engines(-0.001)
    serial, one_ahead, piped, added = [], [], [], []
    with ExitStack() as stack:
        one, two, three, four = (stack.enter_context(linked("engine"))[0] for _ in range(4))
        lockstep, ahead, waits = steps.there(one, 0), steps.there(two, 1), waiting.there(three, None)
        served = steps.there(four, None)
        steps.run(lockstep)
        for _ in range(rounds):
            plain = spent(lambda: steps.run(steps.here))[0]
            serial.append(plain / spent(lambda: steps.run(lockstep))[0])
            one_ahead.append(plain / spent(lambda: steps.run(ahead))[0])
            piped.append(plain / spent(lambda: steps.run(served))[0])
            before = _device_cpu(three)
            ours = spent(lambda: waiting.run(waits))[1] + _device_cpu(three) - before
            added.append(1e6 * (ours - spent(lambda: waiting.run(waiting.here))[1]) / STEPS)
    return [
        at_least("steps of 1 ms: tokens/s over in-process", statistics.median(piped), "ratio", 0.97),
        at_most("steps of 1 ms, one asked ahead: over in-process", statistics.median(one_ahead), "ratio"),
        at_most("steps of 1 ms, one at a time: over in-process", statistics.median(serial), "ratio"),
        at_most("a decode step: CPU added, both ends", statistics.median(added), "us", 10.0),
    ]


def tolled(rounds: int) -> list[Figure]:
    """The toll of confidential hardware: how much of what it costs is got back by asking two steps ahead."""
    steps = Engines(0.001)
    recovered, slowed = [], []
    with ExitStack() as stack:
        free = steps.there(stack.enter_context(linked("engine"))[0], 0)
        slow = steps.there(stack.enter_context(linked("engine", toll=Toll()))[0], 0)
        piped = steps.there(stack.enter_context(linked("engine", toll=Toll()))[0], 2)
        for _ in range(rounds):
            plain = spent(lambda: steps.run(free))[0]
            tolled = spent(lambda: steps.run(slow))[0]
            back = spent(lambda: steps.run(piped))[0]
            recovered.append((tolled - back) / (tolled - plain))
            slowed.append(plain / tolled)
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
