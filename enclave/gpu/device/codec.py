"""Frozen dataclasses as CBOR arrays of their fields, by their type hints: strict in, the same bytes out.

Only null, booleans, integers, 64-bit floats, text, bytes and arrays travel. A mapping is an array of pairs
and a set an array of members, both in rising order.
"""

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from itertools import pairwise
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import cbor2

Value = Any
_Convert = Callable[[Value], Value]


class MessageError(Exception):
    """Bytes that are not a message of this protocol; the message names what is wrong."""


class Codec(typing.NamedTuple):
    """To and from CBOR's values. `decode` raises MessageError."""

    encode: _Convert
    decode: _Convert


def dumps(value: Value) -> bytes:
    """CBOR."""
    return cbor2.dumps(value)


def loads(raw: bytes) -> Value:
    """The value that is all of `raw`, encoded as `dumps` would. Raises MessageError."""
    try:
        value = cbor2.loads(raw)
        again = cbor2.dumps(value)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, AttributeError) as error:
        raise MessageError(f"not CBOR: {type(error).__name__}") from None
    if again != raw:
        raise MessageError("CBOR that is not in its one form")
    return value


@cache
def codec(hint: Any) -> Codec:
    """The codec of a type. TypeError for one that has none."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _EXACT:
        return _exact(hint)
    if hint is type(None):
        return Codec(lambda value: None, lambda value: _is(value is None, None, "null"))
    if origin in (Union, types.UnionType):
        return _optional(arguments)
    if origin is Literal:
        return Codec(lambda value: value, lambda value: _is(value in arguments, value, "one of the words"))
    if origin is tuple:
        return _tuple(arguments)
    if origin is frozenset:
        return _set(codec(arguments[0]))
    if origin is Mapping:
        return _mapping(codec(arguments[0]), codec(arguments[1]))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return _dataclass(hint)
    raise TypeError(f"{hint} has no CBOR form here")


_EXACT = (bool, int, str, bytes, float)


def _is(right: bool, value: Value, what: str) -> Value:
    if not right:
        raise MessageError(f"not {what}")
    return value


def _exact(kind: type) -> Codec:
    def decode(value: Value) -> Value:
        if type(value) is not kind:
            raise MessageError(f"{type(value).__name__} where {kind.__name__} is due")
        return value

    return Codec(kind if kind in (float, int) else (lambda value: value), decode)


def _optional(arguments: tuple[Any, ...]) -> Codec:
    inner = [argument for argument in arguments if argument is not type(None)]
    if len(inner) != 1:
        raise TypeError("a union other than with None has no CBOR form here")
    made = codec(inner[0])
    return Codec(
        lambda value: None if value is None else made.encode(value),
        lambda value: None if value is None else made.decode(value),
    )


def _list(value: Value) -> list[Value]:
    if type(value) is not list:
        raise MessageError("no array where one is due")
    return value


def _tuple(arguments: tuple[Any, ...]) -> Codec:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        item = codec(arguments[0])
        if arguments[0] in (int, str):
            return Codec(list, lambda value: tuple(map(item.decode, _list(value))))
        return Codec(
            lambda value: [item.encode(each) for each in value],
            lambda value: tuple([item.decode(each) for each in _list(value)]),
        )
    items = [codec(argument) for argument in arguments]

    def decode(value: Value) -> tuple[Value, ...]:
        if len(_list(value)) != len(items):
            raise MessageError(f"{len(value)} members where {len(items)} are due")
        return tuple([item.decode(each) for item, each in zip(items, value, strict=True)])

    return Codec(lambda value: [item.encode(each) for item, each in zip(items, value, strict=True)], decode)


def _set(item: Codec) -> Codec:
    def decode(value: Value) -> frozenset[Value]:
        members = [item.decode(each) for each in _list(value)]
        return frozenset(_rising(members))

    return Codec(lambda value: sorted(item.encode(each) for each in value), decode)


def _mapping(key: Codec, item: Codec) -> Codec:
    def decode(value: Value) -> dict[Value, Value]:
        pairs = [_list(pair) for pair in _list(value)]
        if any(len(pair) != 2 for pair in pairs):
            raise MessageError("a mapping's member is no pair")
        _rising([pair[0] for pair in pairs])
        return {key.decode(name): item.decode(each) for name, each in pairs}

    return Codec(
        lambda value: sorted([key.encode(name), item.encode(each)] for name, each in value.items()), decode
    )


def _rising(values: list[Value]) -> list[Value]:
    try:
        rising = all(a < b for a, b in pairwise(values))
    except TypeError:
        raise MessageError("members of different types") from None
    if not rising:
        raise MessageError("members are not in rising order")
    return values


def _enum(kind: type[Enum]) -> Codec:
    def decode(value: Value) -> Enum:
        try:
            made = kind(value)
        except ValueError:
            raise MessageError(f"no {kind.__name__}: {value!r}"[:80]) from None
        return made if type(value) is type(made.value) else _is(False, value, kind.__name__)

    return Codec(lambda value: value.value, decode)


def _dataclass(kind: type) -> Codec:
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    codecs = [codec(hints[name]) for name in names]
    pairs = list(zip(names, codecs, strict=True))

    def encode(value: Value) -> list[Value]:
        return [each.encode(getattr(value, name)) for name, each in pairs]

    def decode(value: Value) -> Value:
        if len(_list(value)) != len(pairs):
            raise MessageError(f"{kind.__name__} has {len(pairs)} fields, not {len(value)}")
        try:
            return kind(**{name: each.decode(raw) for (name, each), raw in zip(pairs, value, strict=True)})
        except (ValueError, TypeError, OverflowError) as error:
            raise MessageError(f"{kind.__name__}: {error}") from None

    return Codec(encode, decode)
