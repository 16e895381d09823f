"""The thread that owns an engine: it loops over steps while there is work and hands tokens to asyncio.

Everything that touches the engine runs on that thread, between steps. Imports no torch.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ..files import FilesError, ModelFiles
from .held_files import HeldFiles
from .interface import (
    EmbeddingEvent,
    EmbeddingRequest,
    Engine,
    EngineError,
    EngineStats,
    Event,
    GenerationRequest,
    ModelRefused,
    Request,
    Swapped,
    TokenEvent,
)

_log = logging.getLogger(__name__)
_SWAPPED = "what is loaded has changed since the request was opened; ask again"
_T = TypeVar("_T")
_E = TypeVar("_E", bound=Event)


class EventStream(Generic[_E]):
    """The events of one request, in order. Closing it early cancels the request.

    Use it as an async iterator inside `async with`. It is bounded by the request's max_tokens. If the
    engine dies, iterating raises EngineError.
    """

    def __init__(self, request_id: str, cancel: Callable[["EventStream[Any]"], None]) -> None:
        self.id = request_id
        self._cancel = cancel
        self._events: deque[_E] = deque()
        self._arrived = asyncio.Event()
        self._over = False
        self._death: EngineError | None = None
        self.loop = asyncio.get_running_loop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _E:
        while not self._events:
            if self._death is not None:
                raise EngineError(str(self._death))
            if self._over:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        event = self._events.popleft()
        self._over = self._over or event.last
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop: a request that still runs is cancelled. May be called again."""
        if not self._over:
            self._over = True
            self._cancel(self)

    def feed(self, event: _E) -> None:
        """Take one event; called on the stream's own event loop."""
        self._events.append(event)
        self._arrived.set()

    def fail(self, error: EngineError) -> None:
        """End with an error after what has arrived; called on the stream's own event loop."""
        self._death = error
        self._arrived.set()


TokenStream = EventStream[TokenEvent]
Still = Callable[[], bool]
"""Whether what a request was opened for is still what is loaded."""


def always() -> bool:
    """Nothing is swapped."""
    return True


class EngineRunner:
    """Owns an engine on a thread of its own. `close` stops it; what still runs then ends with EngineError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._streams: dict[str, EventStream[Any]] = {}
        self._commands: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._death: EngineError | None = None
        self._stats = engine.stats()
        self._adapters, self._encoders = engine.adapters, engine.encoders
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def context_length(self) -> int:
        """Most tokens that prompt and answer of one request may have together."""
        return self._engine.context_length

    @property
    def adapters(self) -> frozenset[str]:
        """Names of the adapters that are loaded, as of the last step."""
        return self._adapters

    @property
    def encoders(self) -> frozenset[str]:
        """Names of the encoders that are loaded, as of the last step."""
        return self._encoders

    @property
    def grammars(self) -> bool:
        """Whether the engine can hold an answer to a grammar."""
        return self._engine.grammars

    @property
    def failure(self) -> EngineError | None:
        """Why nothing runs any more, or None while the engine serves."""
        return self._death

    def stats(self) -> EngineStats:
        """Counts without content, as of the last step."""
        return self._stats

    async def submit(self, request: GenerationRequest, still: Still = always) -> TokenStream:
        """Start a request; its grammar is compiled on another thread first.

        `still` is asked on the engine's thread, between whose commands nothing is loaded or unloaded, before
        the engine is given the request, and after it: other threads may change the device meanwhile. Raises
        Swapped if it says no, what `Engine.prepare` and `Engine.submit` raise, EngineError if the engine has
        ended.
        """
        if request.grammar is not None:
            await asyncio.to_thread(self._engine.prepare, request)
        return await self._start(request, TokenStream(request.id, self._cancel), still)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TokenEvent]:
        """The events of a request; when the consumer goes away the request is cancelled.

        Raises what `submit` raises, at the first event.
        """
        async with await self.submit(request) as stream:
            async for event in stream:
                yield event

    async def embed(self, request: EmbeddingRequest, still: Still = always) -> EmbeddingEvent:
        """One text's vector. Raises as `submit`."""
        stream = EventStream[EmbeddingEvent](request.id, self._cancel)
        async with await self._start(request, stream, still) as started:
            return await anext(started)

    async def load_adapter(self, name: str, files: ModelFiles) -> None:
        """Load an adapter between steps. Its files are read before, on another thread, so that nobody waits
        for a disk or a network. Raises what `Engine.load_adapter` raises.
        """
        try:
            held = await asyncio.to_thread(HeldFiles, files)
        except FilesError as error:
            raise ModelRefused(str(error)) from error

        def load() -> None:
            try:
                self._engine.load_adapter(name, held)
            finally:
                held.close()

        await self._call(load)

    async def unload_adapter(self, name: str) -> None:
        """Unload an adapter between steps. Raises what `Engine.unload_adapter` raises."""
        await self._call(lambda: self._engine.unload_adapter(name))

    async def load_encoder(self, name: str, files: ModelFiles) -> None:
        """Load a sentence encoder between steps. Raises what `Engine.load_encoder` raises."""
        await self._call(lambda: self._engine.load_encoder(name, files))

    def close(self) -> None:
        """Stop after the step in progress and wait for the thread. May be called again."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    async def _start(self, request: Request, stream: EventStream[_E], still: Still) -> EventStream[_E]:
        def start() -> None:
            if not still():
                raise Swapped(_SWAPPED)
            self._engine.submit(request)
            if not still():  # it waited, perhaps, for a device that was being attested anew
                self._engine.cancel(request.id)
                raise Swapped(_SWAPPED)
            self._streams[request.id] = stream

        try:
            await self._call(start)
        except asyncio.CancelledError:
            self._cancel(stream)
            raise
        return stream

    async def _call(self, command: Callable[[], None]) -> None:
        await asyncio.wrap_future(self._post(command))

    def _cancel(self, stream: EventStream[Any]) -> None:
        def cancel() -> None:
            if self._streams.get(stream.id) is stream:
                del self._streams[stream.id]
                self._engine.cancel(stream.id)

        self._post(cancel)

    def _post(self, command: Callable[[], None]) -> Future[None]:
        """Queue a command for the engine's thread; the future fails at once if that has ended."""
        future: Future[None] = Future()
        with self._wake:
            if self._death is None:
                self._commands.append((command, future))
                self._wake.notify()
                return future
        future.set_exception(EngineError(str(self._death)))
        return future

    def _run(self) -> None:
        death = EngineError("the engine was closed")
        try:
            while self._obey():
                if self._engine.has_work():
                    self._deliver(self._engine.step())
                self._observe()
        except BaseException as error:  # whatever killed the thread, its consumers must not wait for it
            _log.error("the engine failed: %s", type(error).__name__)
            death = EngineError(f"the engine failed ({type(error).__name__}): restart the worker")
        self._end(death)

    def _observe(self) -> None:
        self._stats = self._engine.stats()
        self._adapters, self._encoders = self._engine.adapters, self._engine.encoders

    def _obey(self) -> bool:
        """Wait until there is something to do, run the queued commands; False when closing."""
        with self._wake:
            while not (self._closing or self._commands or self._engine.has_work()):
                self._wake.wait()
            if self._closing:
                return False
            commands, self._commands = self._commands, deque()
        while commands:
            command, future = commands.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                command()
            except EngineError as error:
                future.set_exception(error)
            except BaseException as error:  # who waits for this command learns of it; `_run` ends the rest
                future.set_exception(EngineError(f"the engine failed ({type(error).__name__})"))
                with self._wake:
                    self._commands.extendleft(reversed(commands))
                raise
            else:
                future.set_result(None)
        return True

    def _deliver(self, events: list[Event]) -> None:
        """Hand a step's events over, one wake-up for each event loop."""
        batches: dict[asyncio.AbstractEventLoop, list[tuple[EventStream[Any], Event]]] = {}
        for event in events:
            stream = self._streams.pop(event.id, None) if event.last else self._streams.get(event.id)
            if stream is not None:
                batches.setdefault(stream.loop, []).append((stream, event))
        for loop, batch in batches.items():
            if not _call_soon(loop, _feed, batch):
                for stream, _ in batch:
                    self._cancel(stream)

    def _end(self, death: EngineError) -> None:
        with self._wake:
            self._death = death
            commands, self._commands = self._commands, deque()
        for _, future in commands:
            if future.set_running_or_notify_cancel():
                future.set_exception(EngineError(str(death)))
        for stream in self._streams.values():
            _call_soon(stream.loop, stream.fail, death)
        self._streams.clear()


def _feed(batch: list[tuple[EventStream[Any], Event]]) -> None:
    for stream, event in batch:
        stream.feed(event)


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[_T], None], argument: _T) -> bool:
    """False if the loop has closed, so that nobody is there to tell."""
    try:
        loop.call_soon_threadsafe(callback, argument)
    except RuntimeError:
        return False
    return True
