"""What evidence says, field by field, for people: read, never judged."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum, Flag
from typing import Any

from .contents import contents
from .glossary import meaning
from .pieces import Piece, identify

MAX_ITEMS = 64
MAX_TEXT = 4096
_QUIET = {"raw", "signed", "protected", "claims_raw", "message"}


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its dotted name, its value as text, and what it means where that is known."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Explained:
    """What one file is, and its fields in order."""

    piece: Piece
    size: int
    fields: tuple[Field, ...]


def explain(raw: bytes) -> Explained:
    """The kind and the fields of `raw`; MalformedEvidence if it is of no known kind or does not parse."""
    piece, content = identify(raw)
    found = tuple(Field(name, text, meaning(name)) for name, text in _walk("", contents(piece, content)))
    return Explained(piece, len(raw), found)


def _walk(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Enum | datetime | str | int | float | bytes | bytearray) or value is None:
        yield name, _scalar(value)
    elif is_dataclass(value) and not isinstance(value, type):
        for item in fields(value):
            if item.name not in _QUIET:
                yield from _walk(_joined(name, item.name), getattr(value, item.name))
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):  # a named tuple
        yield from _walk(name, value._asdict())
    elif isinstance(value, Mapping):
        for key, item in list(value.items())[:MAX_ITEMS]:
            yield from _walk(_joined(name, _text(key)), item)
    elif isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
        if all(isinstance(item, str | int | Enum) for item in items):
            yield name, ", ".join(_scalar(item) for item in items[:MAX_ITEMS]) or "none"
            return
        for index, item in enumerate(items[:MAX_ITEMS]):
            yield from _walk(f"{name}[{index}]", item)
        if len(items) > MAX_ITEMS:
            yield f"{name}[...]", f"{len(items) - MAX_ITEMS} more"
    else:
        yield name, _text(value)


def _joined(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case Flag():
            return f"{value.value:#x} ({value.name or 'none'})"
        case Enum():
            return f"{value.name} ({value.value})"
        case bytes() | bytearray():
            return bytes(value).hex() or "empty"
        case datetime():
            return value.isoformat()
    return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)[:MAX_TEXT]
    except ValueError:  # an integer with more digits than Python prints
        return "a number too long to print"
