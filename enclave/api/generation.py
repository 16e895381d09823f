"""One answer as it is made: tokens from the engine to pieces of content and of calls."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal, Protocol

from enclave.engine.interface import EngineError, TokenEvent
from enclave.engine.runner import TokenStream
from enclave.text import StopStrings, TextModel
from enclave.text.calls import BrokenCall, CallArguments, CallOpened, Content, Part

from .errors import ApiError, from_engine

Reason = Literal["stop", "length", "tool_calls"]


class Reader(Protocol):
    """Text of an answer to its parts."""

    @property
    def called(self) -> bool:
        """Whether a call began."""

    def push(self, text: str) -> list[Part]:
        """What this text adds."""

    def flush(self, *, cut: bool) -> list[Part]:
        """What was held back; `cut` says that the answer was cut off. Raises BrokenCall."""


class Plain:
    """The reader of answers that call nothing."""

    called = False

    def push(self, text: str) -> list[Part]:
        """The text itself."""
        return [Content(text)] if text else []

    def flush(self, *, cut: bool) -> list[Part]:
        """Nothing."""
        return []


@dataclass(frozen=True, slots=True)
class Scored:
    """A token of the content, natural logarithms of probabilities, how many characters came before it."""

    token: int = field(repr=False)
    logprob: float = field(repr=False)
    top: tuple[tuple[int, float], ...] = field(repr=False)
    start: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of an answer; `finish` is set on the last piece only."""

    parts: tuple[Part, ...] = field(default=(), repr=False)
    tokens: tuple[Scored, ...] = field(default=(), repr=False)
    finish: Reason | None = None

    @property
    def text(self) -> str:
        """The content in it."""
        return "".join(part.text for part in self.parts if isinstance(part, Content))


@dataclass(slots=True)
class Whole:
    """A whole answer: content, calls as [name, arguments in JSON], scores, why it ended, tokens made."""

    text: str = field(default="", repr=False)
    calls: list[list[str]] = field(default_factory=list, repr=False)
    tokens: list[Scored] = field(default_factory=list, repr=False)
    finish: Reason | None = None
    completion_tokens: int = 0

    def add(self, piece: Piece) -> None:
        """Take one more piece."""
        for part in piece.parts:
            match part:
                case Content(text):
                    self.text += text
                case CallOpened(_, name):
                    self.calls.append([name, ""])
                case CallArguments(index, text):
                    self.calls[index][1] += text
        self.tokens += piece.tokens
        self.finish = piece.finish


class Generation:
    """Iterate `pieces` once; leaving early cancels the request. `first` is an event already taken."""

    def __init__(
        self,
        stream: TokenStream,
        text: TextModel,
        stops: Sequence[str],
        reader: Reader,
        first: TokenEvent | None = None,
    ) -> None:
        self._stream = stream
        self._first = first
        self._detokenizer = text.detokenizer()
        self._stops = StopStrings(stops)
        self._reader = reader
        self._scores: list[Scored] = []
        self._decoded = self._shown = 0
        self.completion_tokens = 0

    async def pieces(self) -> AsyncGenerator[Piece]:
        """What becomes known; ApiError if the engine fails."""
        async with self._stream, aclosing(self._events()) as events:
            try:
                async for event in events:
                    if event.finish in ("error", "cancelled"):
                        why = f": {event.error}" if event.error else ""
                        message = f"the engine could not finish this answer{why}"
                        raise ApiError(500, message, kind="server_error")
                    piece = self._take(event)
                    if piece.parts or piece.finish is not None:
                        yield piece
                    if piece.finish is not None:
                        return
            except EngineError as error:
                raise from_engine(error) from None
            except BrokenCall:
                raise ApiError(500, "the answer is not in its form", kind="server_error") from None

    def close(self) -> None:
        """Cancel what was never iterated."""
        self._stream.close()

    async def whole(self) -> Whole:
        """All of it."""
        whole = Whole()
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                whole.add(piece)
        whole.completion_tokens = self.completion_tokens
        return whole

    async def _events(self) -> AsyncGenerator[TokenEvent]:
        first, self._first = self._first, None
        if first is not None:
            yield first
            if first.finish is not None:
                return
        async for event in self._stream:
            yield event

    def _take(self, event: TokenEvent) -> Piece:
        parts: list[Part] = []
        if event.token is not None:
            self.completion_tokens += 1
            text = self._detokenizer.push(event.token)
            self._score(event, text)
            self._show(self._reader.push(text), parts)
        if event.finish is None or self._stops.stopped:
            return Piece(tuple(parts), self._release(), "stop" if self._stops.stopped else None)
        return self._last(parts, event.finish)

    def _last(self, parts: list[Part], finish: str) -> Piece:
        self._show(self._reader.push(self._detokenizer.flush()), parts)
        self._show(self._reader.flush(cut=finish == "length"), parts)
        if not self._stops.stopped:
            self._content(self._stops.flush(), parts)
            self._shown = self._decoded + 1
        cut = finish == "length" and not self._stops.stopped
        called: Reason = "tool_calls" if self._reader.called else "stop"
        return Piece(tuple(parts), self._release(), "length" if cut else called)

    def _show(self, found: list[Part], parts: list[Part]) -> None:
        """Content as far as the stop strings let it through; nothing after one."""
        for part in found:
            if self._stops.stopped:
                return
            if isinstance(part, Content):
                self._content(self._stops.push(part.text), parts)
            else:
                self._content(self._stops.flush(), parts)
                parts.append(part)

    def _content(self, text: str, parts: list[Part]) -> None:
        if text:
            self._shown += len(text)
            parts.append(Content(text))

    def _score(self, event: TokenEvent, text: str) -> None:
        if event.token is not None and event.logprob is not None:
            self._scores.append(Scored(event.token, event.logprob, event.top, self._decoded))
        self._decoded += len(text)

    def _release(self) -> tuple[Scored, ...]:
        """The scores of tokens whose text, or its beginning, was shown."""
        ready = tuple(score for score in self._scores if score.start < self._shown)
        self._scores = self._scores[len(ready) :]
        return ready
