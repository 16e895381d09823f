"""Typed answers that were cut off: the error says what can be bounded."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from client.errors import ShapeMismatch
from client.shapes import typed


class Inner(BaseModel):
    kind: Literal["a", "b"]
    words: list[Annotated[str, Field(max_length=9)]]


class Outer(BaseModel):
    count: int
    ratio: Annotated[float, Field(ge=0, le=1)]
    share: Annotated[float, Field(ge=0, le=1, multiple_of=0.01)]
    age: Annotated[int, Field(gt=0, lt=150)]
    maybe: str | None
    inner: Inner
    more: dict[str, int]


def said(shape: type[object]) -> str:
    with pytest.raises(ShapeMismatch, match="cut off") as caught:
        typed(shape, "{", "length")
    return str(caught.value)


def test_what_has_no_end_is_named() -> None:
    text = said(Outer)
    assert "here /Inner/words, /count, /maybe, /more, /ratio: Field(ge=" in text
    assert "/share" not in text and "/age" not in text and "/kind" not in text


def test_a_bare_integer_is_named_too() -> None:
    assert "here the whole: Field(ge=" in said(int)


def test_where_everything_ends_only_the_limit_is_to_blame() -> None:
    assert said(Inner.__annotations__["kind"]).endswith("raise max_tokens")
