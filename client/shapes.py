"""Typed answers: a Pydantic model, or any type that pydantic can describe, to a JSON Schema and back.

pydantic is imported when first needed: a base install does without it.
"""

import base64
import binascii
import struct
from typing import Any, TypeVar

from .errors import BrokenAnswer, ShapeMismatch

T = TypeVar("T")


def response_format(shape: type[T]) -> dict[str, Any]:
    """`response_format` that holds an answer to `shape`. Raises ImportError without pydantic."""
    schema = _adapter(shape).json_schema()
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in getattr(shape, "__name__", "answer"))
    return {"type": "json_schema", "json_schema": {"name": name[:64], "schema": schema, "strict": True}}


def typed(shape: type[T], text: str, finish_reason: str) -> T:
    """The object that an answer spells. ShapeMismatch if it was cut off or `shape` does not take it."""
    from pydantic import ValidationError

    if finish_reason == "length":
        raise ShapeMismatch("the answer was cut off before its end; raise max_tokens")
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


def _place(path: tuple[int | str, ...]) -> str:
    return "".join(f"/{part}" for part in path) or "the whole"


def _adapter(shape: type[T]) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(shape)
