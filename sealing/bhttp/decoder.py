"""Binary HTTP, read as it arrives, in bounded memory (RFC 9292, section 3).

A message may stop only where the RFC lets it: before the header section, before the content, or before the
trailers, all of which then count as empty. Zero bytes behind the trailers are padding; any other byte there
is an error. Whether a message is complete is known only at its end, so `close` alone yields End. After its
first error a decoder repeats that error and nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

from ..errors import (
    LocalProtocolError,
    MalformedMessage,
    MessageTooLarge,
    RemoteProtocolError,
    TruncatedMessage,
)
from ..octets import Octets
from .encoder import INDETERMINATE_REQUEST, INDETERMINATE_RESPONSE, KNOWN_REQUEST, KNOWN_RESPONSE
from .message import Field, Fields, Informational, control_fault, field_fault, host_fault, status_fault
from .source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a decoder takes: bytes of control data, bytes and lines of a field section, ...

    `pieces` counts the length-prefixed chunks of content of a message of indeterminate length.
    """

    control: int = 1 << 14
    section: int = 1 << 16
    fields: int = 256
    informational: int = 16
    body: int = 1 << 26
    pieces: int = 1 << 20


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class RequestHead:
    """Control data and headers of a request."""

    method: str
    scheme: str
    authority: str
    path: str
    headers: Fields = field(repr=False)


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Final status and headers of a response."""

    status: int
    headers: Fields = field(repr=False)


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of the body, never empty; pieces do not follow the sender's chunks."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class End:
    """The message is complete."""

    trailers: Fields = field(repr=False)


Event = RequestHead | ResponseHead | Informational | Data | End
_Steps = Generator[None, None, None]


class _Decoder(ABC):
    """The parts that requests and responses share; a coroutine that waits for bytes by yielding."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._source = Source()
        self._events: list[Event] = []
        self._steps: _Steps | None = self._message()
        self._error: RemoteProtocolError | None = None

    def feed(self, data: Octets) -> list[Event]:
        """The events that `data` completes. Raises RemoteProtocolError, and again at every later call."""
        self._check()
        if self._steps is None:
            raise LocalProtocolError("the message was already closed")
        self._source.feed(data)
        return self._run()

    def close(self) -> list[Event]:
        """Ends the message: the last events, End being the very last. Raises TruncatedMessage."""
        self._check()
        self._source.close()
        return self._run()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error.with_traceback(None)

    def _run(self) -> list[Event]:
        if self._steps is None:
            return []
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
        except RemoteProtocolError as error:
            self._error, self._steps, self._source = error, None, Source()
            raise
        events, self._events = self._events, []
        return events

    @abstractmethod
    def _message(self) -> _Steps: ...

    def _rest(self, known: bool) -> _Steps:
        """Content, trailers, padding."""
        if known:
            yield from self._known_content()
        else:
            yield from self._indeterminate_content()
        trailers = yield from self._section(known)
        while not (yield from self._source.at_end()):
            if any(self._source.take_available(1 << 16)):
                raise MalformedMessage("a padding byte is not zero")
        self._events.append(End(trailers))

    def _known_content(self) -> _Steps:
        if not (yield from self._source.at_end()):
            length = yield from self._source.varint()
            if length > self._limits.body:
                raise MessageTooLarge(f"a body has at most {self._limits.body} bytes")
            yield from self._pieces(length)

    def _indeterminate_content(self) -> _Steps:
        if (yield from self._source.at_end()):
            return
        total = pieces = 0
        while length := (yield from self._source.varint()):
            total += length
            pieces += 1
            if total > self._limits.body or pieces > self._limits.pieces:
                limits = f"{self._limits.body} bytes in {self._limits.pieces} pieces"
                raise MessageTooLarge(f"a body has at most {limits}")
            yield from self._pieces(length)

    def _pieces(self, length: int) -> _Steps:
        """Hands on content as it comes, without waiting for all of it."""
        while length:
            if (yield from self._source.at_end()):
                raise TruncatedMessage("the message stops inside its content")
            piece = self._source.take_available(length)
            length -= len(piece)
            self._events.append(Data(piece))

    def _section(self, known: bool) -> Generator[None, None, Fields]:
        """A header or trailer section; one that is absent altogether is empty."""
        if (yield from self._source.at_end()):
            return ()
        if not known:
            return (yield from self._lines(self._source, terminated=True))
        length = yield from self._source.varint()
        if length > self._limits.section:
            raise MessageTooLarge(f"a field section has at most {self._limits.section} bytes")
        section = Source((yield from self._source.take(length)))
        try:
            return (yield from self._lines(section, terminated=False))
        except TruncatedMessage:
            raise MalformedMessage("a field line runs beyond its section") from None

    def _lines(self, source: Source, *, terminated: bool) -> Generator[None, None, Fields]:
        """Field lines up to a zero length (terminated) or to the end of `source`."""
        fields: list[Field] = []
        budget = self._limits.section
        while terminated or not (yield from source.at_end()):
            name = yield from self._string(source, budget)
            if not name and terminated:
                break
            value = yield from self._string(source, budget - len(name))
            budget -= len(name) + len(value)
            if len(fields) == self._limits.fields:
                raise MessageTooLarge(f"a field section has at most {self._limits.fields} lines")
            _refuse(field_fault(name, value))
            fields.append((name, value))
        return tuple(fields)

    def _string(self, source: Source, limit: int) -> Generator[None, None, bytes]:
        length = yield from source.varint()
        if length > limit:
            raise MessageTooLarge("a length-prefixed string is longer than its limit")
        return (yield from source.take(length))


class RequestDecoder(_Decoder):
    """Events of one request: RequestHead, Data ..., and End from `close`."""

    def _message(self) -> _Steps:
        framing = yield from self._source.varint()
        if framing not in (KNOWN_REQUEST, INDETERMINATE_REQUEST):
            raise MalformedMessage("the framing indicator is not that of a request")
        budget = self._limits.control
        control: list[str] = []
        for _ in range(4):
            raw = yield from self._string(self._source, budget)
            budget -= len(raw)
            control.append(raw.decode("latin-1"))  # the rules for each part leave ASCII only
        method, scheme, authority, path = control
        _refuse(control_fault(method, scheme, authority, path))
        headers = yield from self._section(framing == KNOWN_REQUEST)
        _refuse(host_fault(authority, headers))
        self._events.append(RequestHead(method, scheme, authority, path, headers))
        yield from self._rest(framing == KNOWN_REQUEST)


class ResponseDecoder(_Decoder):
    """Events of one response: Informational ..., ResponseHead, Data ..., and End from `close`."""

    def _message(self) -> _Steps:
        framing = yield from self._source.varint()
        if framing not in (KNOWN_RESPONSE, INDETERMINATE_RESPONSE):
            raise MalformedMessage("the framing indicator is not that of a response")
        interim = 0
        while (status := (yield from self._source.varint())) < 200:
            _refuse(status_fault(status, informational=True))
            interim += 1
            if interim > self._limits.informational:
                raise MessageTooLarge(f"at most {self._limits.informational} informational responses")
            headers = yield from self._section(framing == KNOWN_RESPONSE)
            self._events.append(Informational(status, headers))
        _refuse(status_fault(status, informational=False))
        headers = yield from self._section(framing == KNOWN_RESPONSE)
        self._events.append(ResponseHead(status, headers))
        yield from self._rest(framing == KNOWN_RESPONSE)


def _refuse(fault: str | None) -> None:
    if fault is not None:
        raise MalformedMessage(f"not a valid HTTP message: {fault}")
