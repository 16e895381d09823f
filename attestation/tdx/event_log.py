"""Event logs behind the RTMRs: what was measured, replayed to what the registers must then hold.

Two forms: the TCG2 log that the ACPI table CCEL points to, and dstack's JSON. A log proves
nothing by itself; it holds as far as it replays to the registers that the quote signs.
"""

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..encoding import strict_json
from ..errors import MalformedEvidence
from ..values import sequence
from ..wire import Reader

MAX_LOG = 4 * 1024 * 1024
MAX_EVENTS = 16384
REGISTER_COUNT = 4
DIGEST_SIZE = 48
DSTACK_RUNTIME_EVENT = 0x08000001

_SHA384 = 0x000C
_NO_ACTION = 0x00000003
_SPEC_ID = b"Spec ID Event03\0"
_GZIP = b"\x1f\x8b"
_ALGORITHMS = 8


@dataclass(frozen=True, slots=True)
class Event:
    """One measurement. `register` counts RTMRs from 0; `name`, `payload`: if the digest covers them."""

    register: int
    kind: int
    digest: bytes
    name: str = ""
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class EventLog:
    """A log in order. `form` is "ccel" or "dstack"; `faults` are digests that contradict their event."""

    form: str
    events: tuple[Event, ...]
    faults: tuple[str, ...] = ()

    @classmethod
    def from_bytes(cls, raw: bytes) -> "EventLog":
        """The log in `raw`, recognised by content, perhaps gzipped; MalformedEvidence otherwise."""
        raw = _inflated(raw)
        if raw.lstrip(b" \t\r\n")[:1] == b"[":
            return _dstack(raw)
        return EventLog("ccel", tuple(_ccel(raw)))

    def replay(self) -> tuple[bytes, ...]:
        """The four registers after every event: SHA-384(register || digest), from zeros."""
        registers = [bytes(DIGEST_SIZE)] * REGISTER_COUNT
        for event in self.events:
            registers[event.register] = hashlib.sha384(registers[event.register] + event.digest).digest()
        return tuple(registers)


def runtime_digest(kind: int, name: str, payload: bytes) -> bytes:
    """The digest of a dstack runtime event: SHA-384(LE32 type || ":" || name || ":" || payload)."""
    parts = kind.to_bytes(4, "little"), name.encode(), payload
    return hashlib.sha384(b":".join(parts)).digest()


def _inflated(raw: bytes) -> bytes:
    if raw[:2] == _GZIP:
        inflater = zlib.decompressobj(wbits=31)
        try:
            raw = inflater.decompress(raw, MAX_LOG + 1)
        except zlib.error as error:
            raise MalformedEvidence(f"event log does not inflate: {error}") from None
        if len(raw) <= MAX_LOG and (not inflater.eof or inflater.unused_data):
            raise MalformedEvidence("event log: gzip stream is cut short or followed by other bytes")
    if len(raw) > MAX_LOG:
        raise MalformedEvidence(f"event log exceeds {MAX_LOG} bytes")
    return raw


def _padded(rest: bytes) -> bool:
    """Whether nothing but the filling of the buffer (0x00 or 0xFF) is left."""
    return rest[:1] in (b"", b"\0", b"\xff") and rest.count(rest[:1]) == len(rest)


def _ccel(raw: bytes) -> Iterable[Event]:
    """TCG_PCR_EVENT with the specification id, then TCG_PCR_EVENT2 (PC Client Firmware Profile 10.2)."""
    reader = Reader(raw, "event log")
    sizes = _specification(reader)
    count = 0
    while not _padded(raw[len(raw) - reader.left :]):
        count += 1
        if count > MAX_EVENTS:
            raise MalformedEvidence(f"event log has more than {MAX_EVENTS} events")
        event = _tcg_event(reader, sizes)
        if event.kind != _NO_ACTION:
            yield event


def _specification(reader: Reader) -> dict[int, int]:
    """Reads the first event; returns the digest size by algorithm."""
    _, kind, _ = reader.little(4), reader.little(4), reader.take(20)
    body = Reader(reader.take(reader.little(4)), "specification id")
    if kind != _NO_ACTION or body.take(16) != _SPEC_ID:
        raise MalformedEvidence("event log does not begin with a TCG2 specification id")
    body.take(8)
    count = body.little(4)
    if not 0 < count <= _ALGORITHMS:
        raise MalformedEvidence(f"event log names {count} algorithms")
    sizes = {body.little(2): body.little(2) for _ in range(count)}
    if sizes.get(_SHA384) != DIGEST_SIZE:
        raise MalformedEvidence("event log has no SHA-384 digests")
    return sizes


def _tcg_event(reader: Reader, sizes: dict[int, int]) -> Event:
    index, kind, count = reader.little(4), reader.little(4), reader.little(4)
    if count > _ALGORITHMS:
        raise MalformedEvidence(f"an event has {count} digests")
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = reader.little(2)
        if algorithm not in sizes or algorithm in digests:
            raise MalformedEvidence(f"an event has an unexpected digest of algorithm {algorithm:#x}")
        digests[algorithm] = reader.take(sizes[algorithm])
    reader.take(reader.little(4))
    # CCEL counts MRTD as 0 and RTMR0 as 1; MRTD is fixed at launch, so only RTMRs are extended.
    if kind == _NO_ACTION:
        return Event(0, kind, b"")
    if not 1 <= index <= REGISTER_COUNT or _SHA384 not in digests:
        raise MalformedEvidence(f"an event for register {index}, or without a SHA-384 digest")
    return Event(index - 1, kind, digests[_SHA384])


def _dstack(raw: bytes) -> EventLog:
    value = strict_json(raw, limit=MAX_LOG)
    faults: list[str] = []
    events = tuple(_dstack_event(item, faults) for item in sequence(value, "event log", MAX_EVENTS))
    return EventLog("dstack", events, tuple(faults))


def _dstack_event(item: Any, faults: list[str]) -> Event:
    if not isinstance(item, dict):
        raise MalformedEvidence("an event is not an object")
    register, kind, name = item.get("imr"), item.get("event_type"), item.get("event", "")
    if type(register) is not int or not 0 <= register < REGISTER_COUNT:
        raise MalformedEvidence(f"an event for register {register!r}")
    if type(kind) is not int or not 0 <= kind < 1 << 32 or type(name) is not str:
        raise MalformedEvidence("an event without a type, or with a name that is not a string")
    digest, payload = _hex(item, "digest"), _hex(item, "event_payload")
    if kind == DSTACK_RUNTIME_EVENT:
        computed = runtime_digest(kind, name, payload)
        if digest and digest != computed:
            faults.append(f"event {name!r} comes with a digest that is not its own")
        return Event(register, kind, computed, name, payload)
    if len(digest) != DIGEST_SIZE:
        raise MalformedEvidence(f"an event with a digest of {len(digest)} bytes")
    return Event(register, kind, digest)


def _hex(item: dict[str, Any], key: str) -> bytes:
    text = item.get(key, "")
    try:
        return bytes.fromhex(text)
    except (TypeError, ValueError):
        raise MalformedEvidence(f"an event's {key} is not hexadecimal") from None
