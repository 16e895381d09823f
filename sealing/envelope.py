"""Fields that a sealed request and its answer carry for the channel itself, inside the seal.

A request says when it was made, which workload it was attested under and which attempt it
belongs to; an answer hands over the next one-time key. The gateway takes these fields off before
an application sees the request (docs/spec/channel.md).
"""

import base64
import re
from dataclasses import dataclass
from typing import Final, Self

from .bhttp import Fields
from .errors import MalformedMessage

CREATED: Final = b"cloister-created"
WORKLOAD: Final = b"cloister-workload"
REQUEST_ID: Final = b"cloister-request-id"
SESSION: Final = b"cloister-session"

WORKLOAD_SIZE: Final = 32
REQUEST_ID_SIZE: Final = 16
MAX_SKEW: Final = 120
"""Seconds by which a request's creation time may differ from the gateway's clock, either way."""

PROBLEM_KEY: Final = "https://iana.org/assignments/http-problem-types#ohttp-key"
PROBLEM_DATE: Final = "https://iana.org/assignments/http-problem-types#date"
PROBLEM_WORKLOAD: Final = "urn:cloister:problem:workload"
PROBLEM_REPLAY: Final = "urn:cloister:problem:replay"

_TIME: Final = re.compile(rb"0|[1-9][0-9]{0,11}")
_OURS: Final = frozenset({CREATED, WORKLOAD, REQUEST_ID, SESSION})


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """`created` in Unix seconds, `workload` = W (32 bytes), `request_id` 16 bytes, the same in a retry."""

    created: int
    workload: bytes
    request_id: bytes

    def to_fields(self) -> Fields:
        """The three fields of a request."""
        return (
            (CREATED, str(self.created).encode("ascii")),
            (WORKLOAD, _encode(self.workload)),
            (REQUEST_ID, _encode(self.request_id)),
        )

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """The envelope of a request; MalformedMessage unless each field is there once and well formed."""
        created = _only(fields, CREATED)
        if _TIME.fullmatch(created) is None:
            raise MalformedMessage("cloister-created is not a time in seconds")
        return cls(
            created=int(created),
            workload=_decode(_only(fields, WORKLOAD), WORKLOAD_SIZE),
            request_id=_decode(_only(fields, REQUEST_ID), REQUEST_ID_SIZE),
        )


def strip(fields: Fields) -> Fields:
    """The fields that are not the channel's own."""
    return tuple(field for field in fields if field[0] not in _OURS)


def session_field(session: bytes) -> tuple[bytes, bytes]:
    """The field that hands the next one-time key, as canonical JSON, to the client."""
    return SESSION, _encode(session)


def session_of(fields: Fields) -> bytes | None:
    """The next one-time key in an answer, if there is one. Raises MalformedMessage."""
    values = [value for name, value in fields if name == SESSION]
    if not values:
        return None
    return _decode(_only(fields, SESSION), None)


def _only(fields: Fields, name: bytes) -> bytes:
    values = [value for key, value in fields if key == name]
    if len(values) != 1:
        raise MalformedMessage(f"{name.decode()} is there {len(values)} times, not once")
    return values[0]


def _encode(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _decode(text: bytes, size: int | None) -> bytes:
    try:
        raw = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise MalformedMessage("a field of the channel is not base64url") from None
    if _encode(raw) != text or (size is not None and len(raw) != size):
        raise MalformedMessage("a field of the channel has the wrong size or is not canonical")
    return raw
