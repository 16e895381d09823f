"""Binary HTTP, written: whole messages, and messages whose length is not yet known (RFC 9292, section 3).

What is written is canonical: minimal integers, every section present, no padding unless asked for.
"""

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from ..errors import LocalProtocolError
from ..octets import Octets, encode_varint
from .message import (
    Field,
    Fields,
    Request,
    Response,
    control_fault,
    field_fault,
    host_fault,
    status_fault,
)

KNOWN_REQUEST: Final = 0
KNOWN_RESPONSE: Final = 1
INDETERMINATE_REQUEST: Final = 2
INDETERMINATE_RESPONSE: Final = 3


def encode_request(request: Request) -> bytes:
    """A request of known length. Raises LocalProtocolError when the request breaks a rule."""
    parts = [bytes((KNOWN_REQUEST,)), _request_control(request)]
    parts += _known_rest(request.headers, request.body, request.trailers)
    return b"".join(parts)


def encode_response(response: Response) -> bytes:
    """A response of known length. Raises LocalProtocolError when the response breaks a rule."""
    parts = [bytes((KNOWN_RESPONSE,))]
    for interim in response.informational:
        parts += [_status(interim.status, informational=True), _known(_lines(interim.headers))]
    parts.append(_status(response.status, informational=False))
    parts += _known_rest(response.headers, response.body, response.trailers)
    return b"".join(parts)


def encode_request_indeterminate(request: Request) -> bytes:
    """A whole request in the indeterminate-length form, its body one chunk."""
    encoder = RequestEncoder()
    return encoder.head(request) + encoder.data(request.body) + encoder.end(request.trailers)


def encode_response_indeterminate(response: Response) -> bytes:
    """A whole response in the indeterminate-length form, its body one chunk."""
    encoder = ResponseEncoder()
    parts = [encoder.informational(interim.status, interim.headers) for interim in response.informational]
    parts += [encoder.head(response.status, response.headers), encoder.data(response.body)]
    return b"".join((*parts, encoder.end(response.trailers)))


class _Phase(Enum):
    HEAD = auto()
    BODY = auto()
    DONE = auto()


_BODY: Final = _Phase.BODY  # looked up once: `data` runs for every streamed token


class _Encoder:
    """Body and end of an indeterminate-length message; head, data ..., end, in this order."""

    def __init__(self) -> None:
        self._phase = _Phase.HEAD

    def data(self, chunk: Octets) -> bytes:
        """One piece of the body; nothing for an empty piece, which would end the body."""
        if self._phase is not _BODY:
            self._expect(_BODY)
        return encode_varint(len(chunk)) + chunk if chunk else b""

    def end(self, trailers: Fields = (), *, padding: int = 0) -> bytes:
        """The end of the body, the trailers and `padding` zero bytes."""
        self._expect(_Phase.BODY)
        if padding < 0:
            raise LocalProtocolError("padding is not negative")
        lines = _lines(trailers)
        self._phase = _Phase.DONE
        return b"".join((b"\x00", *lines, b"\x00", bytes(padding)))

    def _expect(self, phase: _Phase) -> None:
        if self._phase is not phase:
            raise LocalProtocolError(f"the message is at {self._phase.name}, not at {phase.name}")


class RequestEncoder(_Encoder):
    """A request whose length is not yet known."""

    def head(self, request: Request) -> bytes:
        """Control data and headers; body and trailers of `request` are left to `data` and `end`."""
        self._expect(_Phase.HEAD)
        parts = [bytes((INDETERMINATE_REQUEST,)), _request_control(request), *_lines(request.headers)]
        self._phase = _Phase.BODY
        return b"".join((*parts, b"\x00"))


class ResponseEncoder(_Encoder):
    """A response whose length is not yet known."""

    def __init__(self) -> None:
        super().__init__()
        self._framing = bytes((INDETERMINATE_RESPONSE,))

    def informational(self, status: int, headers: Fields = ()) -> bytes:
        """An informational response, before the head."""
        return self._section(status, headers, informational=True)

    def head(self, status: int, headers: Fields = ()) -> bytes:
        """The final status and the headers."""
        section = self._section(status, headers, informational=False)
        self._phase = _Phase.BODY
        return section

    def _section(self, status: int, headers: Fields, *, informational: bool) -> bytes:
        self._expect(_Phase.HEAD)
        section = _status(status, informational=informational) + b"".join(_lines(headers))
        framing, self._framing = self._framing, b""
        return framing + section + b"\x00"


def _refuse(fault: str | None) -> None:
    if fault is not None:
        raise LocalProtocolError(f"not a valid HTTP message: {fault}")


def _request_control(request: Request) -> bytes:
    control = (request.method, request.scheme, request.authority, request.path)
    _refuse(control_fault(*control) or host_fault(request.authority, request.headers))
    return b"".join(encode_varint(len(text)) + text.encode("ascii") for text in control)


def _status(status: int, *, informational: bool) -> bytes:
    _refuse(status_fault(status, informational=informational))
    return encode_varint(status)


def _line(line: Field) -> bytes:
    name, value = line
    _refuse(field_fault(name, value))
    return b"".join((encode_varint(len(name)), name, encode_varint(len(value)), value))


def _lines(headers: Iterable[Field]) -> list[bytes]:
    return [_line(line) for line in headers]


def _known(parts: list[bytes]) -> bytes:
    section = b"".join(parts)
    return encode_varint(len(section)) + section


def _known_rest(headers: Fields, body: bytes, trailers: Fields) -> list[bytes]:
    return [_known(_lines(headers)), encode_varint(len(body)), body, _known(_lines(trailers))]
