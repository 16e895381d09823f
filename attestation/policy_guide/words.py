"""How a policy is spoken about: its keys as a file has them, and its fields in plain words."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a statement means for the reader."""

    DEMANDED = "demands"  # a demand that evidence has to meet
    OPEN = "not required"  # something that could be demanded and is not
    WEAKENED = "weakened"  # a demand that the policy drops in so many words


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that a policy says, or does not ask for."""

    kind: Kind
    text: str


Explainer = Callable[[Any], Statement]


class Writing(StrEnum):
    """Whether a profile to start from writes a key."""

    ALWAYS = "always"
    STRICT = "strict"  # written in a strict profile, a comment in another
    COMMENT = "comment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of a section. `value` is TOML: what a profile writes, or shows in a comment.

    `weakens` says what is lost by writing it, or by writing it loosely; empty if nothing is.
    """

    name: str
    type: str
    default: str
    meaning: str
    value: str
    weakens: str = ""
    writing: Writing = Writing.COMMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """One section: what it is for, its keys in the order to write them, its fields in words.

    `roots` are those that a profile names for it; `bundle` marks evidence that comes in a bundle of
    ours, which wants a [workload] section; `simulator` marks what the simulator can show.
    """

    title: str
    keys: tuple[Key, ...]
    fields: Mapping[str, Explainer]
    roots: tuple[str, ...] = ()
    bundle: bool = False
    simulator: bool = False
    notes: tuple[str, ...] = ()


def fill(what: str) -> str:
    """A value to be filled in: a string where none can stand, so that it never parses by itself."""
    return f'"FILL-IN: {what}"'


def loosening(name: str, meaning: str, weakens: str) -> Key:
    """A weakening that is a key of its own, false unless written."""
    return Key(name=name, type="boolean", default="false", meaning=meaning, weakens=weakens, value="true")


def hexes(name: str, size: int, meaning: str, default: str, **more: Any) -> Key:
    """An array of hexadecimal strings of `size` bytes."""
    shape = {"value": f'["<{size} bytes>"]'} | more
    return Key(name=name, type=f"array of {size}-byte hex", default=default, meaning=meaning, **shape)


def accepts(text: str) -> Statement:
    return Statement(Kind.DEMANDED, text)


def left_open(text: str) -> Statement:
    return Statement(Kind.OPEN, text)


def weakened(text: str) -> Statement:
    return Statement(Kind.WEAKENED, text)


def flag(loose: str, strict: str) -> Explainer:
    """A weakening: `loose` if it is written, `strict` otherwise."""
    return lambda value: weakened(loose) if value else accepts(strict)


def demand(text: str, otherwise: str) -> Explainer:
    """Something asked for on request."""
    return lambda value: accepts(text) if value else left_open(otherwise)


def only(noun: str, *, empty: str = "", any_value: str = "") -> Explainer:
    """A list of values: `empty` is said of an empty one, `any_value` of None, a weakening."""

    def say(value: Iterable[object] | None) -> Statement:
        if value is None:
            return weakened(any_value or f"any {noun}")
        shown = listed(value)
        return accepts(f"{noun}: only {shown}" if shown else empty or f"{noun}: none")

    return say


def restricted(noun: str, otherwise: str) -> Explainer:
    """A list that a policy may have; without one nothing is asked."""
    return lambda value: accepts(f"{noun}: only {listed(value)}") if value else left_open(otherwise)


def extra(noun: str, strict: str) -> Explainer:
    """Values beyond the strict ones; each is a weakening."""
    return lambda value: weakened(f"{noun}: {listed(value)}") if value else accepts(strict)


def floor(noun: str) -> Explainer:
    """A least number, version or set of bits; zero asks for nothing."""

    def say(value: Any) -> Statement:
        zero = not any(value) if isinstance(value, tuple | bytes) else not value
        return left_open(f"{noun}: no minimum") if zero else accepts(f"{noun}: at least {_plain(value)}")

    return say


def ceiling(noun: str) -> Explainer:
    """The longest time that something may take or last."""
    return lambda value: accepts(f"{noun}: at most {_plain(value)}")


def allowance(noun: str, strict: str) -> Explainer:
    """A time by which a limit may be overstepped; none is strict."""
    return lambda value: weakened(f"{noun}: {_plain(value)}") if value else accepts(strict)


def listed(values: Iterable[object]) -> str:
    """Values in a stable order, as a file would have them."""
    return ", ".join(sorted(_plain(value) for value in values))


def registers(allowed: Mapping[Any, Any] | None) -> Statement:
    """Register values by bank and index, or by index alone."""
    if allowed is None:
        return weakened("registers may hold anything: what booted is not judged")
    names = [
        f"{bank}:{index}" if isinstance(inner, Mapping) else str(bank)
        for bank, inner in allowed.items()
        for index in (inner if isinstance(inner, Mapping) else [None])
    ]
    return accepts(f"registers with listed values: {', '.join(names)}; the others may hold anything")


def _plain(value: object) -> str:
    match value:
        case bytes():
            return value.hex() if any(value) else f"{len(value)} zero bytes"
        case (str(name), bytes(root)):
            return f"{name}={root.hex()}"
        case tuple():
            return ".".join(str(part) for part in value)
        case timedelta():
            return f"{value.total_seconds():.0f} s"
        case _:
            return str(value)
