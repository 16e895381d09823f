"""`DeviceEngine`: the worker's engine, which keeps token ids and a link and nothing that computes.

Every call is one command to the device and one reply. Imports no torch.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeVar

from enclave.engine import interface
from enclave.engine.interface import (
    DeviceLost,
    EmbeddingEvent,
    EmbeddingRequest,
    EngineError,
    EngineOptions,
    EngineStats,
    Event,
    GenerationRequest,
    InvalidRequest,
    Request,
    TokenEvent,
)
from enclave.files import FilesError, ModelFiles
from enclave.gpu.link import Kind, Link, LinkBroken, LinkError, LinkTimeout, Reason

from . import messages
from .codec import MessageError
from .files import send_range
from .messages import (
    Cancel,
    Command,
    Embed,
    Erase,
    Events,
    Failed,
    GetStats,
    LoadAdapter,
    Loaded,
    LoadEncoder,
    LoadModel,
    Prepare,
    ReadFile,
    Reply,
    Stats,
    Step,
    Submit,
    UnloadAdapter,
)

_log = logging.getLogger(__name__)

DEADLINE: Final = 30.0
"""Seconds that a device may take for a reply until a model's options say how long a step may take."""
SHORT_STEP: Final = 0.010
"""Seconds of a step below which two are asked for ahead ([ADR 0032](docs/adr/0032-two-steps-ahead.md))."""
LOAD_DEADLINE: Final = 300.0
STATS_AGE: Final = 0.25
_ERRORS: Final[dict[str, type[Exception]]] = {
    name: getattr(interface, name)
    for name in dir(interface)
    if isinstance(getattr(interface, name), type) and issubclass(getattr(interface, name), EngineError)
} | {"FilesError": FilesError}

_T = TypeVar("_T")


class DeviceEngine:
    """An engine on a device. Implements `Engine`; one thread owns it, but for `prepare`, `attach` and `lost`.

    `deadline` (s) is how long the device may take for a step; None: `step_seconds` of the model's options.
    When the link breaks, requests in flight end with an error event and new ones raise DeviceLost, until
    `attach` gives it a link to a device again and what it held is loaded anew. While requests run, `ahead`
    steps are asked for before the last one's events are handed out, so that the device computes on; with 2,
    also while messages cross. None: 2 while steps are short, else 1.
    """

    def __init__(
        self,
        *,
        deadline: float | None = None,
        load_deadline: float = LOAD_DEADLINE,
        ahead: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._given_deadline, self._load_deadline = deadline, load_deadline
        self._deadline = DEADLINE if deadline is None else deadline
        self._ahead, self._clock = ahead, clock
        self._sent: deque[float] = deque()
        self._answered, self._pace = 0.0, math.inf
        self._failure: Exception | None = None
        self._lock = threading.RLock()
        self._link: Link | None = None
        self._why, self._cause = "no device is attached", "no device is attached"
        self._given_up = ""
        self._loading = self._ready = self._silent = False
        self._facts = Loaded(0, frozenset(), frozenset(), False, "none")
        self._next = 0
        self._ids: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        self._embeddings: set[int] = set()
        self._unreported: list[Event] = []
        self._stats, self._stats_at = EngineStats(), 0.0

    @property
    def attached(self) -> bool:
        """Whether there is a link, as far as is known."""
        return self._link is not None

    @property
    def trouble(self) -> str:
        """Why there is no link, once there is none."""
        return self._cause

    @property
    def silent(self) -> bool:
        """Whether the link was given up because the device did not answer: it needs a reset."""
        return self._silent

    @property
    def deadline(self) -> float:
        """Seconds that the device may take for a step."""
        return self._deadline

    @property
    def context_length(self) -> int:
        return self._facts.context_length

    @property
    def adapters(self) -> frozenset[str]:
        return self._facts.adapters

    @property
    def encoders(self) -> frozenset[str]:
        return self._facts.encoders

    @property
    def grammars(self) -> bool:
        return self._facts.grammars

    @property
    def weights_memory(self) -> str:
        """Where the device keeps the weights."""
        return self._facts.weights_memory

    @property
    def loading(self) -> bool:
        """Whether the device is reading a base model, and may be silent for long."""
        return self._loading

    def attach(self, link: Link) -> None:
        """Use a link to a verified device, which holds nothing yet."""
        with self._lock:
            self._link, self._silent, self._given_up = link, False, ""

    def lost(self, why: str) -> None:
        """The link is broken: end the requests in flight. May be called again.

        It is closed before the lock is taken: who holds that may wait for the device, and then waits no more.
        """
        held = self._link
        if held is not None and held.broken is None:
            self._given_up = why
            held.close()
        with self._lock:
            why = self._given_up or why
            link, self._link = self._link, None
            self._ready = False
            self._sent.clear()
            if link is not None:
                self._cause = why
                self._why = f"the device was lost ({why}); it is being attested anew, ask again later"
                link.close()
            message = self._why
            for number, name in self._ids.items():
                kind = EmbeddingEvent if number in self._embeddings else None
                self._unreported.append(
                    kind(id=name, error=message)
                    if kind
                    else TokenEvent(id=name, finish="error", error=message)
                )
            self._ids.clear()
            self._numbers.clear()
            self._embeddings.clear()

    def load_model(self, files: ModelFiles, options: EngineOptions) -> None:
        """Load a model. Raises ModelRefused, DeviceLost."""
        with self._lock:
            self._loading = True
            try:
                self._load(LoadModel(files.label, files.sizes, options), files)
                self._deadline = self._given_deadline or options.step_seconds
                self._ready = True
            finally:
                self._loading = False

    def erase(self) -> None:
        """Have the device overwrite the model's weights; one that is gone has none."""
        self._ready = False
        try:
            self._call(Erase())
        except EngineError as error:
            _log.info("the device could not be told to erase: %s", error)

    def prepare(self, request: GenerationRequest) -> None:
        self._call(Prepare(replace(request, id="0")))

    def submit(self, request: Request) -> None:
        with self._lock:
            if self._link is not None and not self._ready:
                raise DeviceLost("the device holds no model yet: ask again later")
            if request.id in self._numbers:
                raise InvalidRequest(f"a request with id {request.id!r} is running")
            self._next += 1
            number = self._next
            if isinstance(request, EmbeddingRequest):
                self._call(Embed(replace(request, id=str(number))))
                self._embeddings.add(number)
            else:
                self._call(Submit(replace(request, id=str(number))))
            self._ids[number] = request.id
            self._numbers[request.id] = number

    def cancel(self, request_id: str) -> None:
        with self._lock:
            number = self._numbers.get(request_id)
            if number is not None and self._link is not None:
                with suppress(DeviceLost):
                    self._call(Cancel(number))
                # What a step that was under way made of it is not reported any more.
                self._unreported = [
                    event for event in self._unreported if event.id != request_id or event.last
                ]

    def has_work(self) -> bool:
        return bool(self._ids) or bool(self._unreported)

    def step(self) -> list[Event]:
        with self._lock:
            if self._ids and self._link is not None:
                try:
                    self._ask(1)
                    self._take_step()
                    paced = 2 if self._pace < SHORT_STEP else 1
                    self._ask(paced if self._ahead is None else self._ahead)
                except DeviceLost:
                    pass  # what it means for each request is among the unreported events
            events, self._unreported = self._unreported, []
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return events

    def stats(self) -> EngineStats:
        now = time.monotonic()
        with self._lock:
            if self._link is not None and (now - self._stats_at > STATS_AGE or not self._ids):
                try:
                    reply = self._call(GetStats())
                except EngineError:
                    return self._stats
                if isinstance(reply, Stats):
                    self._stats, self._stats_at = reply.stats, now
        return self._stats

    def load_adapter(self, name: str, files: ModelFiles) -> None:
        with self._lock:
            self._load(LoadAdapter(name, files.label, files.sizes), files)

    def unload_adapter(self, name: str) -> None:
        with self._lock:
            self._keep(self._call(UnloadAdapter(name)))

    def load_encoder(self, name: str, files: ModelFiles) -> None:
        with self._lock:
            self._load(LoadEncoder(name, files.label, files.sizes), files)

    def _load(self, command: Command, files: ModelFiles) -> None:
        """A command that has the device read `files`; the worker's own error if it cannot read them."""
        failures: list[FilesError] = []
        try:
            self._keep(self._call(command, lambda link, ask: send_range(link, files, ask, failures.append)))
        except (EngineError, FilesError):
            if failures:
                raise interface.ModelRefused(str(failures[0])) from failures[0]
            raise

    def _keep(self, reply: Reply) -> None:
        if not isinstance(reply, Loaded):
            raise self._broken("the device gave another reply than to a load")
        self._facts = reply

    def _ask(self, steps: int) -> None:
        """Have `steps` steps asked for, as long as there is a request for them."""
        while self._ids and len(self._sent) < steps:
            self._sent.append(self._clock())
            self._exchange(lambda link: link.send(messages.encode(Step()), timeout=self._deadline))

    def _take_step(self) -> None:
        """The events of the first step that was asked for and is not answered."""
        reply = self._exchange(lambda link: self._reply(link, None))
        now = self._clock()
        self._pace = now - max(self._sent.popleft(), self._answered)
        self._answered = now
        if isinstance(reply, Failed):
            self._failure = _error(reply)  # for `step` to raise, whoever reads it here
        else:
            self._take(reply)

    def _take(self, reply: Reply) -> None:
        if not isinstance(reply, Events):
            raise self._broken("the device gave another reply than to a step")
        try:
            found = messages.unpack_events(reply, self._ids)
        except MessageError as error:
            raise self._broken(f"the device's events are malformed: {error}") from None
        for number, event in found:
            self._unreported.append(event)
            if event.last:
                self._numbers.pop(self._ids.pop(number, ""), None)
                self._embeddings.discard(number)

    def _call(self, command: Command, serve: "Callable[[Link, ReadFile], None] | None" = None) -> Reply:
        """One command, one reply. Raises the device's error, DeviceLost if the link breaks."""
        with self._lock:
            self._exchange(lambda link: link.send(messages.encode(command), timeout=self._deadline))
            while self._sent:  # the device answers in order
                self._take_step()
            reply = self._exchange(lambda link: self._reply(link, serve))
        if isinstance(reply, Failed):
            raise _error(reply)
        return reply

    def _exchange(self, use: "Callable[[Link], _T]") -> _T:
        """What `use` makes of the link. Raises DeviceLost if it breaks."""
        if self._link is None:
            raise DeviceLost(self._why)
        try:
            return use(self._link)
        except LinkError as error:
            self._silent = _late(error)
            raise self._broken(str(error)) from None
        except MessageError as error:
            raise self._broken(f"its reply is malformed: {error}") from None

    def _reply(self, link: Link, serve: "Callable[[Link, ReadFile], None] | None") -> Reply:
        wait = self._deadline if serve is None else self._load_deadline
        while True:
            kind, data = link.receive(timeout=wait)
            if kind is Kind.SPDM:
                raise MessageError("SPDM that nobody asked for")
            reply = messages.decode_reply(data)
            if not isinstance(reply, ReadFile):
                return reply
            if serve is None:
                raise MessageError("it asks for files where none are loaded")
            serve(link, reply)

    def _broken(self, why: str) -> DeviceLost:
        self.lost(why)
        return DeviceLost(self._why)


def _late(error: LinkError) -> bool:
    """Whether a deadline passed, and nothing else was wrong."""
    return isinstance(error, LinkTimeout) or (
        isinstance(error, LinkBroken) and error.reason is Reason.DEADLINE
    )


def _error(reply: Failed) -> Exception:
    """The device's error, of the class it had there."""
    kind = _ERRORS.get(reply.error, EngineError)
    if issubclass(kind, interface.Overloaded) and reply.retry_after is not None:
        return kind(reply.message, reply.retry_after)
    return kind(reply.message)
