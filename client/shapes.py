"""Typed answers: a Pydantic model, or any type that pydantic can describe, to a JSON Schema and back.

pydantic is imported when first needed: a base install does without it.
"""

import base64
import binascii
import struct
from collections.abc import Iterator
from typing import Any, Final, TypeVar

from .errors import BrokenAnswer, ShapeMismatch

T = TypeVar("T")
_MOST_NAMED: Final = 5
_BOUNDS: Final = {
    "integer": {"minimum", "maximum"},
    "number": {"minimum", "maximum", "multipleof"},
    "string": {"maxlength"},
    "array": {"maxitems"},
}


def response_format(shape: type[T]) -> dict[str, Any]:
    """`response_format` that holds an answer to `shape`. Raises ImportError without pydantic."""
    schema = _adapter(shape).json_schema()
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in getattr(shape, "__name__", "answer"))
    return {"type": "json_schema", "json_schema": {"name": name[:64], "schema": schema, "strict": True}}


def typed(shape: type[T], text: str, finish_reason: str) -> T:
    """The object that an answer spells. ShapeMismatch if it was cut off or `shape` does not take it."""
    from pydantic import ValidationError

    if finish_reason == "length":
        raise ShapeMismatch(f"the answer was cut off before its end; {_ways_out(shape)}")
    try:
        value: T = _adapter(shape).validate_json(text)
    except ValidationError as error:
        faults = "; ".join(f"{_place(fault['loc'])}: {fault['type']}" for fault in error.errors())
        raise ShapeMismatch(f"the answer is not of the type: {faults[:300]}") from None
    return value


def vector(spelled: Any) -> tuple[float, ...]:
    """An embedding in base64 of little-endian float32. BrokenAnswer for anything else."""
    try:
        raw = base64.b64decode(spelled, validate=True)
        return struct.unpack(f"<{len(raw) // 4}f", raw)
    except (TypeError, binascii.Error, struct.error):
        raise BrokenAnswer("an embedding is not base64 of float32") from None


def _ways_out(shape: type[Any]) -> str:
    """What to do about an answer without an end: the parts of `shape` that a model may never end, bounded."""
    endless = sorted(set(_endless(_adapter(shape).json_schema(), "")))
    if not endless:
        return "raise max_tokens"
    more = ", ..." if len(endless) > _MOST_NAMED else ""
    named = ", ".join(endless[:_MOST_NAMED]) + more
    return (
        f"raise max_tokens, or bound what a model may never end, here {named}: Field(ge=..., le=...) for"
        " whole numbers, multiple_of besides for others, max_length for texts and lists"
    )


def _endless(schema: Any, where: str) -> Iterator[str]:
    """Where in a JSON Schema that pydantic wrote a value has no longest form."""
    if not isinstance(schema, dict):
        return
    fixed = "enum" in schema or "const" in schema
    if not fixed and schema.get("type") in _BOUNDS and not _BOUNDS[schema["type"]] <= _bounded(schema):
        yield where or "the whole"
    for name, inner in {**schema.get("properties", {}), **schema.get("$defs", {})}.items():
        yield from _endless(inner, f"{where}/{name}")
    for inner in (
        schema.get("items"),
        schema.get("additionalProperties"),
        *schema.get("prefixItems", ()),
        *schema.get("anyOf", ()),
    ):
        yield from _endless(inner, where)


def _bounded(schema: dict[str, Any]) -> set[str]:
    """Which of the bounds a schema has; an exclusive one is one, and a format or pattern is taken for one."""
    names = {name.removeprefix("exclusive").lower() for name in schema}
    return names | ({"maxlength"} if names & {"format", "pattern"} else set())


def _place(path: tuple[int | str, ...]) -> str:
    return "".join(f"/{part}" for part in path) or "the whole"


def _adapter(shape: type[T]) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(shape)
