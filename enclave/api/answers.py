"""Answers in OpenAI's shapes: whole objects and event streams."""

import json
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, Protocol

from .errors import ApiError
from .generation import Piece, Whole
from .held import Answering
from .merging import merged

Choice = dict[str, Any]


class Form(Protocol):
    """How one kind of answer is spelled."""

    object: ClassVar[str]
    stream_object: ClassVar[str]
    prefix: ClassVar[str]

    def opening(self, index: int) -> Choice | None:
        """The first choice of a stream, before any piece."""

    def chunks(self, index: int, piece: Piece) -> list[Choice]:
        """The choices of a stream that a piece becomes."""

    def whole(self, index: int, answer: Whole) -> Choice:
        """The choice of a whole answer."""


def head(kind: str, prefix: str, model: str, created: int, fingerprint: str) -> dict[str, Any]:
    """The members that every object of one answer repeats."""
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": created,
        "model": model,
        "system_fingerprint": fingerprint,
    }


def usage(prompt_tokens: int, answers: Sequence[Answering]) -> dict[str, int]:
    """Token counts so far, as OpenAI spells them. A prompt counts once, however many answers it got."""
    completion = sum(answer.completion_tokens for answer in answers)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": prompt_tokens + completion,
    }


async def collect(answers: Sequence[Answering]) -> list[Whole]:
    """The whole answers, in order. Raises ApiError, and then none goes on."""
    gathered = [Whole() for _ in answers]
    async with aclosing(merged(answers)) as pieces:
        async for at, piece in pieces:
            gathered[at].add(piece)
    return gathered


async def stream(
    repeated: dict[str, Any],
    answers: Sequence[Answering],
    form: Form,
    counts: Callable[[], dict[str, int]] | None,
) -> AsyncGenerator[bytes]:
    """The events of answers; an error after the first event is an event too, and ends the stream.

    `counts` gives the usage for the last event, where it was asked for.
    """
    none: dict[str, Any] = {"usage": None} if counts is not None else {}
    try:
        async with aclosing(merged(answers)) as pieces:
            for index in range(len(answers)):
                if opening := form.opening(index):
                    yield _event(repeated | {"choices": [opening]} | none)
            async for index, piece in pieces:
                for choice in form.chunks(index, piece):
                    yield _event(repeated | {"choices": [choice]} | none)
    except ApiError as error:
        yield _event(error.body)
        return
    if counts is not None:
        yield _event(repeated | {"choices": [], "usage": counts()})
    yield b"data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"
