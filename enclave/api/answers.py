"""Answers in OpenAI's shapes: whole objects and event streams."""

import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from .errors import ApiError
from .service import Generation, Piece

Chunk = Callable[[Piece], dict[str, Any]]
"""A choice of one stream chunk from a piece."""


def envelope(kind: str, prefix: str, model: str, created: int) -> dict[str, Any]:
    """The members that every object of one answer repeats."""
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": created, "model": model}


async def collect(generation: Generation) -> Piece:
    """The whole answer as one piece."""
    texts: list[str] = []
    finish = None
    async with aclosing(generation.pieces()) as pieces:
        async for piece in pieces:
            texts.append(piece.text)
            finish = piece.finish
    return Piece("".join(texts), finish)


async def stream(
    head: dict[str, Any],
    generation: Generation,
    chunk: Chunk,
    *,
    include_usage: bool,
    opening: dict[str, Any] | None = None,
) -> AsyncIterator[bytes]:
    """The events of an answer; an error after the first event is an event too, and ends the stream."""
    usage: dict[str, Any] = {"usage": None} if include_usage else {}
    try:
        async with aclosing(generation.pieces()) as pieces:
            if opening is not None:
                yield _event(head | {"choices": [opening]} | usage)
            async for piece in pieces:
                yield _event(head | {"choices": [chunk(piece)]} | usage)
    except ApiError as error:
        yield _event(error.body)
        return
    if include_usage:
        yield _event(head | {"choices": [], "usage": generation.usage()})
    yield b"data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"
