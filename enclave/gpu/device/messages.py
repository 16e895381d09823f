"""What crosses the link beside weights: commands to the device's engine, and its replies.

A message is a CBOR array: its number, then its fields (codec.py). One reply to each command; while a
command loads files the device asks for their bytes with ReadFile, each answered by one bulk object.

    command = LoadModel | LoadAdapter | LoadEncoder | UnloadAdapter | Prepare | Submit | Embed
            | Cancel | Step | GetStats | Erase
    reply   = Done | Loaded | Events | Stats | Failed | ReadFile

Requests have numbers in place of their ids here. An event is [number, token] if that is all there is to say,
else [number, kind, the event's fields without its id].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

import cbor2

from enclave.engine.interface import (
    EmbeddingEvent,
    EmbeddingRequest,
    EngineOptions,
    EngineStats,
    Event,
    GenerationRequest,
    TokenEvent,
)

from .codec import MessageError, codec, dumps, loads


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Load a model whose files have these sizes; `label` is what messages call it."""

    label: str
    sizes: Mapping[str, int]
    options: EngineOptions


@dataclass(frozen=True, slots=True)
class LoadAdapter:
    """Load a LoRA adapter as `name`."""

    name: str
    label: str
    sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LoadEncoder:
    """Load a sentence encoder as `name`."""

    name: str
    label: str
    sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class UnloadAdapter:
    """Give up an adapter."""

    name: str


@dataclass(frozen=True, slots=True)
class Prepare:
    """Compile the request's grammar."""

    request: GenerationRequest


@dataclass(frozen=True, slots=True)
class Submit:
    """Queue a generation."""

    request: GenerationRequest


@dataclass(frozen=True, slots=True)
class Embed:
    """Queue an embedding."""

    request: EmbeddingRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    """Drop a request."""

    number: int


@dataclass(frozen=True, slots=True)
class Step:
    """Run one batch."""


@dataclass(frozen=True, slots=True)
class GetStats:
    """Ask for the engine's counts."""


@dataclass(frozen=True, slots=True)
class Erase:
    """Overwrite the model's weights and forget the engine."""


@dataclass(frozen=True, slots=True)
class Done:
    """It is done."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """It is loaded; what the engine has and can do now."""

    context_length: int
    adapters: frozenset[str]
    encoders: frozenset[str]
    grammars: bool
    weights_memory: str


@dataclass(frozen=True, slots=True)
class Events:
    """What came of a step: events as described above, not yet parsed."""

    events: tuple[Any, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stats:
    """The engine's counts."""

    stats: EngineStats


@dataclass(frozen=True, slots=True)
class Failed:
    """It could not be done: the name of an error of engine/interface.py or files.py, and its message.

    `retry_after` (s) comes with Overloaded.
    """

    error: str
    message: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class ReadFile:
    """Send `length` bytes of a file from `offset` on, as one bulk object."""

    name: str
    offset: int
    length: int

    def __post_init__(self) -> None:
        if self.offset < 0 or self.length < 1:
            raise ValueError("a range of a file begins at 0 or later, and is not empty")


Command = (
    LoadModel
    | LoadAdapter
    | LoadEncoder
    | UnloadAdapter
    | Prepare
    | Submit
    | Embed
    | Cancel
    | Step
    | GetStats
    | Erase
)
Reply = Done | Loaded | Events | Stats | Failed | ReadFile

_COMMANDS: Final[tuple[type, ...]] = get_args(Command)
_REPLIES: Final[tuple[type, ...]] = get_args(Reply)
_NUMBERS: Final = {kind: number for number, kind in enumerate((*_COMMANDS, *_REPLIES), 1)}
_KINDS: Final = {number: kind for kind, number in _NUMBERS.items()}
_EVENTS: Final = _NUMBERS[Events]
_STEP: Final = dumps([_NUMBERS[Step]])
_STEP_COMMAND: Final = Step()
_PAIR: Final = b"\x82"
_BEYOND: Final = 1 << 64
_EVENTS_HEAD: Final = _PAIR + bytes((_EVENTS,))
_TOKEN, _EMBEDDING = 1, 2
_EVENT_KINDS: Final = {_TOKEN: TokenEvent, _EMBEDDING: EmbeddingEvent}


def encode(message: Command | Reply) -> bytes:
    """The message's bytes."""
    if type(message) is Step:
        return _STEP
    kind: Any = type(message)
    number = _NUMBERS[kind]
    if isinstance(message, Events):
        return _tokens(message.events) or dumps([number, list(message.events)])
    return dumps([number, *codec(kind).encode(message)])


def decode_command(raw: bytes) -> Command:
    """What a worker asks. Raises MessageError."""
    if raw == _STEP:  # most of what is ever asked
        return _STEP_COMMAND
    message: Command = _decode(raw, _COMMANDS)
    return message


def decode_reply(raw: bytes) -> Reply:
    """What a device answers. Raises MessageError."""
    if raw.startswith(_EVENTS_HEAD):
        events = _tokens_in(raw)
        if events is not None:
            return events
    message: Reply = _decode(raw, _REPLIES)
    return message


def _tokens(events: Sequence[Any]) -> bytes | None:
    """The encoding of events that are all [number, token], as `dumps` gives it; None if they are not.

    That is nearly every step, and a general encoder takes longer for it than the link does.
    """
    parts = [_EVENTS_HEAD, _head(0x80, len(events))]
    for event in events:
        if type(event) is not list or len(event) != 2:
            return None
        number, token = event
        if type(number) is not int or type(token) is not int:
            return None
        if not (0 <= number < _BEYOND and 0 <= token < _BEYOND):
            return None
        parts += (_PAIR, _head(0, number), _head(0, token))
    return b"".join(parts)


def _tokens_in(raw: bytes) -> Events | None:
    """The events in `raw` if they are such; None for anything else, which is for `loads` to judge."""
    try:
        _, events = cbor2.loads(raw)
        again = _tokens(events)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, AttributeError, KeyError):
        return None
    return Events(tuple(events)) if again == raw else None


def _head(major: int, number: int) -> bytes:
    """CBOR's shortest head of an unsigned number (RFC 8949, 3). OverflowError beyond 64 bits and below 0."""
    if 0 <= number < 24:
        return bytes((major | number,))
    size = 1 if number < 1 << 8 else 2 if number < 1 << 16 else 4 if number < 1 << 32 else 8
    return bytes((major | 23 + size.bit_length(),)) + number.to_bytes(size, "big")


def _decode(raw: bytes, allowed: tuple[type, ...]) -> Any:
    value = loads(raw)
    if type(value) is not list or not value or type(value[0]) is not int:
        raise MessageError("a message is an array that begins with a number")
    kind = _KINDS.get(value[0])
    if kind not in allowed or kind is None:
        raise MessageError(f"no message of number {value[0]} is due here"[:80])
    if kind is Events:
        if len(value) != 2 or type(value[1]) is not list:
            raise MessageError("events are one array")
        return Events(tuple(value[1]))
    return codec(kind).decode(value[1:])


def pack_events(events: Sequence[Event]) -> Events:
    """A step's events, whose ids are numbers in decimal."""
    return Events(tuple([_packed(event) for event in events]))


def unpack_events(message: Events, ids: Mapping[int, str]) -> list[tuple[int, Event]]:
    """(number, event) with the ids that the numbers stand for. Raises MessageError."""
    return [_unpacked(value, ids) for value in message.events]


def _packed(event: Event) -> list[Any]:
    number = int(event.id)
    if type(event) is TokenEvent:
        if event.finish is None and event.logprob is None and not event.top and event.error is None:
            return [number, event.token]
        return [number, _TOKEN, *_tails(TokenEvent, event)]
    return [number, _EMBEDDING, *_tails(EmbeddingEvent, event)]


def _tails(kind: type, event: Event) -> list[Any]:
    encoded: list[Any] = codec(kind).encode(event)
    return encoded[1:]


def _unpacked(value: Any, ids: Mapping[int, str]) -> tuple[int, Event]:
    if type(value) is not list or len(value) < 2 or type(value[0]) is not int:
        raise MessageError("an event is an array that begins with its request's number")
    name = ids.get(value[0])
    if name is None:
        raise MessageError("an event of a request that does not run")
    if len(value) == 2:
        if type(value[1]) is not int:
            raise MessageError("a token is a number")
        return value[0], TokenEvent(id=name, token=value[1])
    kind = _EVENT_KINDS.get(value[1]) if type(value[1]) is int else None
    if kind is None:
        raise MessageError("an event of no known kind")
    event: Event = codec(kind).decode([name, *value[2:]])
    return value[0], event
