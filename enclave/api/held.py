"""Answers held to their shape: checked at their end, and where the engine has no masks asked for again.

An answer that has a shape is never given out as whole when it does not match.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from enclave.text.calls import BrokenCall, CallArguments, CallOpened, Content, Part
from enclave.text.tool_form import instructed

from .errors import ApiError
from .generation import Generation, Piece, Whole
from .shapes import Shape

MAX_ATTEMPTS = 3
Turns = Sequence[Mapping[str, Any]]


class Answering(Protocol):
    """An answer as it is made, whatever makes it."""

    @property
    def completion_tokens(self) -> int:
        """Tokens made so far."""

    def pieces(self) -> AsyncGenerator[Piece]:
        """What becomes known; ApiError if there is no good answer. Iterate once."""

    def close(self) -> None:
        """Drop an answer that was never iterated."""


class Checked:
    """A masked answer, checked once more at its end."""

    def __init__(self, generation: Generation, shape: Shape) -> None:
        self._generation = generation
        self._shape = shape

    @property
    def completion_tokens(self) -> int:
        """Tokens made so far."""
        return self._generation.completion_tokens

    async def pieces(self) -> AsyncGenerator[Piece]:
        """The pieces; the last is withheld, and ApiError 500 raised, if the whole does not match."""
        gathered = Whole()
        async with aclosing(self._generation.pieces()) as pieces:
            async for piece in pieces:
                gathered.add(piece)
                if piece.finish is not None and self._shape.complaint(gathered):
                    raise ApiError(500, "the answer does not have the shape asked for", kind="server_error")
                yield piece

    def close(self) -> None:
        """Cancel it."""
        self._generation.close()


@dataclass(slots=True)
class Repaired:
    """An answer of an engine without masks: generated whole, checked, asked for again with what is wrong.

    `generate` makes one answer to a conversation. At most three attempts; then ApiError 422 with the words of
    the validator. Token counts are those of all attempts.
    """

    shape: Shape
    turns: Turns = field(repr=False)
    generate: Callable[[Turns], Awaitable[Generation]]
    completion_tokens: int = 0

    async def pieces(self) -> AsyncGenerator[Piece]:
        """The whole answer as one piece."""
        turns, complaint = list(self.turns), ""
        for _ in range(MAX_ATTEMPTS):
            answer = await (await self.generate(turns)).whole()
            self.completion_tokens += answer.completion_tokens
            try:
                parted = self.shape.read(answer)
                complaint = self.shape.complaint(parted) or ""
            except BrokenCall as error:
                complaint = str(error)
            else:
                if not complaint:
                    yield Piece(_parts(parted), (), parted.finish)
                    return
            turns += corrected(answer.text, complaint)
        words = f"; at last: {complaint}" if self.shape.quoted else ""
        raise ApiError(
            422,
            f"{MAX_ATTEMPTS} times the answer did not have the shape asked for{words}",
            kind="server_error",
            code="answer_invalid",
        )

    def close(self) -> None:
        """Nothing has begun."""


def corrected(text: str, complaint: str) -> list[dict[str, str]]:
    """The turns that ask for another answer, in the validator's words."""
    words = f"That answer is not valid: {complaint}. Answer again with nothing but the corrected answer."
    return [{"role": "assistant", "content": text}, {"role": "user", "content": words}]


def told_shape(turns: Turns, shape: Shape) -> Turns:
    """`turns` that say in words what JSON the answer must be, for an engine without masks."""
    if shape.content is None:
        return turns
    return instructed(turns, f"Answer with nothing but JSON that matches this JSON Schema:\n{shape.schema()}")


def _parts(answer: Whole) -> tuple[Part, ...]:
    parts: list[Part] = [Content(answer.text)] if answer.text else []
    for at, (name, arguments) in enumerate(answer.calls):
        parts += [CallOpened(at, name), CallArguments(at, arguments)]
    return tuple(parts)
