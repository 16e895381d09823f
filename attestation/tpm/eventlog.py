"""TCG event logs, crypto agile (TCG PC Client Platform Firmware Profile 1.06, section 10), replayed.

The log itself is not signed: what it says counts only if its digests extend to the quoted values.
Nothing here looks into event data, except where the profile makes it set a register's start value.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from ..errors import MalformedEvidence
from ..wire import Reader
from .quote import BANKS, PCRS

MAX_LOG = 1024 * 1024
MAX_EVENTS = 8192
NO_ACTION = 3
_SPEC_ID = b"Spec ID Event03\0"
_LOCALITY = b"StartupLocality\0"
_DYNAMIC = range(17, 23)  # reset to all ones; only a dynamic launch sets them to zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One TCG_PCR_EVENT2; `digests` in the order of the log's header."""

    pcr: int
    kind: int
    digests: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLog:
    """A log's digest algorithms (id, size) and events, the header event as bytes. Parsed, not replayed."""

    header: bytes
    algorithms: tuple[tuple[int, int], ...]
    events: tuple[Event, ...]

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The log in `raw`; MalformedEvidence if it is not crypto agile, or more than 1 MiB."""
        if len(raw) > MAX_LOG:
            raise MalformedEvidence(f"event log of {len(raw)} bytes exceeds {MAX_LOG}")
        reader = Reader(raw, "TCG event log")
        if reader.take(len(_START)) != _START:
            raise MalformedEvidence("event log without a specification id event")
        header = reader.take(reader.little(4))
        algorithms = _algorithms(header)
        events: list[Event] = []
        while reader.left:
            if len(events) == MAX_EVENTS:
                raise MalformedEvidence(f"event log of more than {MAX_EVENTS} events")
            events.append(_event(reader, algorithms))
        return cls(header=header, algorithms=algorithms, events=tuple(events))

    def to_bytes(self) -> bytes:
        """The log, byte for byte as parsed."""
        head = _START + _u32(len(self.header)) + self.header
        return head + b"".join(self._event(event) for event in self.events)

    def _event(self, event: Event) -> bytes:
        digests = b"".join(
            identifier.to_bytes(2, "little") + digest
            for (identifier, _), digest in zip(self.algorithms, event.digests, strict=True)
        )
        head = _u32(event.pcr) + _u32(event.kind) + _u32(len(event.digests))
        return head + digests + _u32(len(event.data)) + event.data

    @property
    def banks(self) -> tuple[str, ...]:
        """The banks that the log has digests for."""
        return tuple(BANKS[identifier] for identifier, _ in self.algorithms if identifier in BANKS)

    def replay(self, bank: str) -> dict[int, bytes]:
        """The register values of `bank` that the log leads to; empty if it has no digests for it."""
        for position, (identifier, size) in enumerate(self.algorithms):
            if BANKS.get(identifier) == bank:
                return _replay(self.events, position, bank, size)
        return {}


def _replay(events: Iterable[Event], position: int, bank: str, size: int) -> dict[int, bytes]:
    values = {index: (b"\xff" if index in _DYNAMIC else b"\0") * size for index in range(PCRS)}
    for event in events:
        if event.kind != NO_ACTION:
            extended = values[event.pcr] + event.digests[position]
            values[event.pcr] = hashlib.new(bank, extended).digest()
        elif event.pcr == 0 and event.data[:16] == _LOCALITY and len(event.data) == 17:
            values[0] = bytes(size - 1) + event.data[16:]
    return values


_START = bytes(4) + NO_ACTION.to_bytes(4, "little") + bytes(20)  # TCG_PCR_EVENT, its SHA-1 zero


def _algorithms(header: bytes) -> tuple[tuple[int, int], ...]:
    reader = Reader(header, "event log header")
    if reader.take(len(_SPEC_ID)) != _SPEC_ID:
        raise MalformedEvidence("event log that is not crypto agile")
    reader.take(8)  # platform class, specification version and errata, size of UINTN
    count = reader.little(4)
    if not 1 <= count <= 8:
        raise MalformedEvidence(f"event log with {count} digest algorithms")
    found = tuple((reader.little(2), reader.little(2)) for _ in range(count))
    reader.take(reader.little(1))  # vendor information
    reader.end()
    if len({identifier for identifier, _ in found}) != count or any(size > 64 for _, size in found):
        raise MalformedEvidence("event log that names an algorithm twice, or with an impossible size")
    for identifier, size in found:
        if identifier in BANKS and hashlib.new(BANKS[identifier]).digest_size != size:
            raise MalformedEvidence(f"event log with {BANKS[identifier]} digests of {size} bytes")
    return found


def _event(reader: Reader, algorithms: tuple[tuple[int, int], ...]) -> Event:
    pcr, kind, count = reader.little(4), reader.little(4), reader.little(4)
    if (pcr >= PCRS and kind != NO_ACTION) or count != len(algorithms):
        raise MalformedEvidence("event for a register that does not exist, or without all digests")
    digests = []
    for identifier, size in algorithms:
        if reader.little(2) != identifier:
            raise MalformedEvidence("event whose digests are not in the header's order")
        digests.append(reader.take(size))
    return Event(pcr=pcr, kind=kind, digests=tuple(digests), data=reader.take(reader.little(4)))


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")
