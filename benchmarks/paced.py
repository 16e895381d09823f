"""A stand-in engine whose step takes exactly so long, for measuring what stands around an engine."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from enclave.engine.interface import EngineOptions, EngineStats, Event, GenerationRequest, Request, TokenEvent
from enclave.files import ModelFiles


@dataclass(frozen=True)
class NoFiles:
    """A model without files, called by its seconds a step. Implements `ModelFiles`."""

    label: str
    sizes: dict[str, int] = field(default_factory=dict)

    def read(self, name: str) -> bytes:
        raise FileNotFoundError(name)

    def chunks(self, name: str) -> Iterator[memoryview]:
        raise FileNotFoundError(name)

    def fill(self, name: str, offset: int, into: memoryview) -> None:
        raise FileNotFoundError(name)


def work(seconds: float) -> None:
    """Take so long by the clock: computing, or, if negative, waiting for hardware that computes."""
    if seconds < 0:
        time.sleep(-seconds)
        return
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


class PacedEngine:
    """A token a step for every request, up to its max_tokens. Implements `Engine`."""

    context_length = 1 << 20
    adapters: frozenset[str] = frozenset()
    encoders: frozenset[str] = frozenset()
    grammars = False
    weights_memory = "no"

    def __init__(self, files: ModelFiles, options: EngineOptions) -> None:
        self._seconds = float(files.label)
        self._left: dict[str, int] = {}

    def prepare(self, request: GenerationRequest) -> None:
        """Nothing to compile."""

    def submit(self, request: Request) -> None:
        """Queue it."""
        assert isinstance(request, GenerationRequest)
        self._left[request.id] = request.max_tokens

    def cancel(self, request_id: str) -> None:
        """Forget it."""
        self._left.pop(request_id, None)

    def step(self) -> list[Event]:
        """One token for each; nothing, and no time, if there is none."""
        if not self._left:
            return []
        work(self._seconds)
        events: list[Event] = []
        for name, left in list(self._left.items()):
            events.append(TokenEvent(id=name, token=left, finish=None if left > 1 else "length"))
            self._left[name] = left - 1
            if left == 1:
                del self._left[name]
        return events

    def has_work(self) -> bool:
        """Whether a request is running."""
        return bool(self._left)

    def stats(self) -> EngineStats:
        """How many run."""
        return EngineStats(running=len(self._left))

    def erase(self) -> None:
        """There are no weights."""

    def load_adapter(self, name: str, files: ModelFiles) -> None:
        """None of that."""

    def unload_adapter(self, name: str) -> None:
        """None of that."""

    def load_encoder(self, name: str, files: ModelFiles) -> None:
        """None of that."""
