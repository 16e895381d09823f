"""A device in a thread of the test: a real bus, real SPDM, real records; only its engine is written here."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from attestation import Policy
from attestation.binding import sha256
from enclave.engine.interface import (
    EmbeddingEvent,
    EmbeddingRequest,
    EngineError,
    EngineOptions,
    EngineStats,
    Event,
    GenerationRequest,
    InvalidRequest,
    Overloaded,
    Request,
    Sampling,
    TokenEvent,
)
from enclave.files import FilesError, ModelFiles
from enclave.gpu.bus import Bus, BusEnd, Side
from enclave.gpu.device.attested import judge_by
from enclave.gpu.device.engine import DeviceEngine
from enclave.gpu.device.keeper import DeviceKeeper, NotRestored
from enclave.gpu.device.process import SimulatedGpu
from enclave.simulator.answering import SecurityProcessor
from enclave.simulator.chip import SnpProcessor
from enclave.simulator.gpu import GpuIdentity, Mode, measurement_digest
from enclave.simulator.reference import device_policy
from enclave.tee.simulated import ProcessorLink, SimulatedCollateral
from tests.enclave.simulation import CODE, MEASUREMENT, NOW, attended, gpu

STUCK = 45.0
ATTACH = 5.0
MODEL = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 9000}


@dataclass
class MemoryFiles:
    """Files in memory, one of which may be unreadable. Implements `ModelFiles`."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(MODEL))
    broken: str = ""
    label: str = "a model"

    @property
    def sizes(self) -> dict[str, int]:
        return {name: len(content) for name, content in sorted(self.files.items())}

    def read(self, name: str) -> bytes:
        return self.files[name]

    def chunks(self, name: str) -> Iterator[memoryview]:
        yield memoryview(self.files[name])

    def fill(self, name: str, offset: int, into: memoryview) -> None:
        if name == self.broken:
            raise FilesError(f"{name}: a chunk does not open")
        into[:] = self.files[name][offset : offset + len(into)]


class EchoEngine:
    """Answers each request with its own prompt, a token a step. `stuck` holds a step up."""

    def __init__(self, files: ModelFiles, options: EngineOptions) -> None:
        self.digests = {name: sha256(b"".join(map(bytes, files.chunks(name)))) for name in files.sizes}
        self.options = options
        self.context_length = 99
        self.adapters: frozenset[str] = frozenset()
        self.encoders: frozenset[str] = frozenset()
        self.grammars = True
        self.weights_memory = "tested"
        self.stuck, self.stepping = threading.Event(), threading.Event()
        self.running: dict[str, list[int]] = {}
        self.texts: list[str] = []
        self.steps = 0
        self.submitted: list[Request] = []

    def prepare(self, request: GenerationRequest) -> None:
        if request.grammar == "bad":
            raise InvalidRequest("that grammar cannot be followed")

    def submit(self, request: Request) -> None:
        self.submitted.append(request)
        if len(self.running) == 3:
            raise Overloaded("three are enough", 2.5)
        if isinstance(request, EmbeddingRequest):
            self.texts.append(request.id)
        else:
            self.running[request.id] = list(request.prompt)

    def cancel(self, request_id: str) -> None:
        self.running[request_id] = []

    def step(self) -> list[Event]:
        self.stepping.set()
        self.stuck.wait(STUCK if self.stuck_now else 0)
        self.steps += 1
        events: list[Event] = [EmbeddingEvent(id=i, vector=(0.6, -0.8)) for i in self.texts]
        self.texts.clear()
        for name, left in list(self.running.items()):
            token = left.pop(0) if left else None
            finish: Any = None if token is not None else "stop"
            events.append(
                TokenEvent(id=name, token=token, finish=finish, logprob=-0.5 if token == 7 else None)
            )
            if token is None:
                del self.running[name]
        return events

    stuck_now = False

    def erase(self) -> None:
        self.erased = True

    erased = False

    def has_work(self) -> bool:
        return bool(self.running or self.texts)

    def stats(self) -> EngineStats:
        return EngineStats(running=len(self.running), steps=self.steps)

    def load_adapter(self, name: str, files: ModelFiles) -> None:
        files.read("adapter_config.json")
        self.adapters |= {name}

    def unload_adapter(self, name: str) -> None:
        self.adapters -= {name}

    def load_encoder(self, name: str, files: ModelFiles) -> None:
        self.encoders |= {name}


@dataclass
class Bench:
    """One bus with a device on it, and the worker's objects."""

    bus: Bus
    chip: SecurityProcessor
    end: BusEnd
    engine: DeviceEngine
    keeper: DeviceKeeper
    engines: list[EchoEngine] = field(default_factory=list)
    resets: list[int] = field(default_factory=list)
    devices: list[tuple[SimulatedGpu, BusEnd, threading.Thread]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Mend from now on; `told` says what happened."""

        def restore(session: str) -> None:
            try:
                self.engine.load_model(MemoryFiles(), EngineOptions())
                self.engine.load_adapter("sailor", MemoryFiles({"adapter_config.json": b"{}"}))
            except EngineError as error:
                raise NotRestored(str(error)) from error
            self.told.append("restored")

        self.keeper.watch(lambda: self.told.append("lost"), restore)

    def plug_in(self, identity: GpuIdentity) -> None:
        """A device starts, and tells the security processor who it is."""
        self.chip.learn(0, identity.chain)
        end = BusEnd(self.bus.descriptors, Side.DEVICE)

        def load(files: ModelFiles, options: EngineOptions) -> EchoEngine:
            self.engines.append(EchoEngine(files, options))
            return self.engines[-1]

        device = SimulatedGpu(end, identity, load)
        thread = threading.Thread(target=device.serve, daemon=True)
        thread.start()
        self.devices.append((device, end, thread))

    def pull_out(self) -> None:
        """The device is killed."""
        device, end, thread = self.devices.pop()
        device.switch_off()
        if self.engines:
            self.engines[-1].stuck.set()
        end.detach()
        thread.join(10)
        assert not thread.is_alive()

    def restart(self, identity: GpuIdentity) -> None:
        self.pull_out()
        self.plug_in(identity)


@contextmanager
def bench(
    *,
    identity: GpuIdentity | None = None,
    connect: bool = True,
    deadline: float | None = 5.0,
    ahead: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Bench]:
    """A device and a worker that judges it strictly."""
    identity = identity or gpu()
    chip = SecurityProcessor(SnpProcessor(MEASUREMENT, clock=lambda: NOW))
    with Bus.create() as bus, attended(chip) as socket:
        link = ProcessorLink(socket)
        end = BusEnd(bus.descriptors, Side.WORKER)
        engine = DeviceEngine(deadline=deadline, load_deadline=deadline or 5.0, ahead=ahead, clock=clock)
        rules = Policy.from_toml(device_policy(measurement_digest(CODE)))
        judge = judge_by(rules, SimulatedCollateral(link).current, lambda: NOW)
        resets: list[int] = []
        keeper = DeviceKeeper(end, judge, engine, reset=lambda: resets.append(1), attach_timeout=ATTACH)
        made = Bench(bus, chip, end, engine, keeper, resets=resets)
        made.plug_in(identity)
        try:
            if connect:
                keeper.connect()
            yield made
        finally:
            keeper.close()
            while made.devices:
                made.pull_out()
            end.close()
            link.close()


def request(name: str = "r", prompt: tuple[int, ...] = (5, 6, 7), **options: Any) -> GenerationRequest:
    return GenerationRequest(
        id=name,
        prompt=prompt,
        sampling=Sampling(temperature=0.0),
        max_tokens=9,
        eos=frozenset({1, 2}),
        **options,
    )


def run_out(engine: DeviceEngine) -> list[Event]:
    """Every event until there is nothing to do."""
    events: list[Event] = []
    while engine.has_work():
        events += engine.step()
    return events


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


__all__ = ["Bench", "MemoryFiles", "Mode", "bench", "request", "run_out", "until"]
