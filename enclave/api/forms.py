"""How chat answers and plain completions are spelled, whole and in chunks, log-probabilities included."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from enclave.text.calls import CallArguments, CallOpened, Content, Part

from .answers import Choice
from .generation import Piece, Scored, Whole

IMPOSSIBLE = -9999.0
"""What OpenAI writes for a log-probability of minus infinity, which JSON cannot spell."""

Bytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class ChatForm:
    """chat.completion and its chunks. `scored` says whether log-probabilities were asked for."""

    token_bytes: Bytes
    scored: bool = False
    object: ClassVar[str] = "chat.completion"
    stream_object: ClassVar[str] = "chat.completion.chunk"
    prefix: ClassVar[str] = "chatcmpl"

    def opening(self, index: int) -> Choice:
        """The role."""
        return self._chunk(index, {"role": "assistant", "content": "", "refusal": None})

    def chunks(self, index: int, piece: Piece) -> list[Choice]:
        """A chunk for the content, one for each part of a call, one for the end."""
        found = [self._chunk(index, delta) for delta in self._deltas(piece)]
        if piece.finish is not None:
            found.append(self._chunk(index, {}) | {"finish_reason": piece.finish})
        if self.scored and piece.tokens and found:
            found[0]["logprobs"] = self._logprobs(piece.tokens)
        return found

    def whole(self, index: int, answer: Whole) -> Choice:
        """The message."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": answer.text or (None if answer.calls else ""),
            "refusal": None,
        }
        if answer.calls:
            message["tool_calls"] = [
                {"id": _call_id(), "type": "function", "function": {"name": name, "arguments": arguments}}
                for name, arguments in answer.calls
            ]
        logprobs = self._logprobs(answer.tokens) if self.scored else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": answer.finish}

    def _chunk(self, index: int, delta: dict[str, Any]) -> Choice:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def _deltas(self, piece: Piece) -> Iterable[dict[str, Any]]:
        return (_delta(part) for part in piece.parts)

    def _logprobs(self, tokens: Sequence[Scored]) -> dict[str, Any]:
        content = [
            self._token(score.token, score.logprob)
            | {"top_logprobs": [self._token(token, logprob) for token, logprob in score.top]}
            for score in tokens
        ]
        return {"content": content, "refusal": None}

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        raw = self.token_bytes(token)
        text = raw.decode("utf-8", "replace")
        return {"token": text, "logprob": max(logprob, IMPOSSIBLE), "bytes": list(raw)}


def _delta(part: Part) -> dict[str, Any]:
    match part:
        case Content(text):
            return {"content": text}
        case CallOpened(at, name):
            function = {"name": name, "arguments": ""}
            return {"tool_calls": [{"index": at, "id": _call_id(), "type": "function", "function": function}]}
        case CallArguments(at, text):
            return {"tool_calls": [{"index": at, "function": {"arguments": text}}]}


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


@dataclass(frozen=True, slots=True)
class CompletionForm:
    """text_completion, whole and in chunks. `echoes` are the prompts to repeat, one a choice, or none."""

    token_bytes: Bytes
    scored: bool = False
    echoes: Sequence[str] = ()
    object: ClassVar[str] = "text_completion"
    stream_object: ClassVar[str] = "text_completion"
    prefix: ClassVar[str] = "cmpl"

    def opening(self, index: int) -> Choice | None:
        """The prompt, where it is repeated."""
        return self._choice(index, self.echoes[index], (), None) if self.echoes else None

    def chunks(self, index: int, piece: Piece) -> list[Choice]:
        """One chunk."""
        return [self._choice(index, piece.text, piece.tokens, piece.finish)]

    def whole(self, index: int, answer: Whole) -> Choice:
        """The text."""
        echo = self.echoes[index] if self.echoes else ""
        return self._choice(index, echo + answer.text, answer.tokens, answer.finish)

    def _choice(self, index: int, text: str, tokens: Sequence[Scored], finish: str | None) -> Choice:
        logprobs = self._logprobs(tokens) if self.scored else None
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}

    def _logprobs(self, tokens: Sequence[Scored]) -> dict[str, Any]:
        return {
            "tokens": [self._text(score.token) for score in tokens],
            "token_logprobs": [max(score.logprob, IMPOSSIBLE) for score in tokens],
            "top_logprobs": [self._top(score) for score in tokens],
            "text_offset": [score.start for score in tokens],
        }

    def _top(self, score: Scored) -> dict[str, float]:
        pairs = [*score.top, (score.token, score.logprob)]
        return {self._text(token): max(logprob, IMPOSSIBLE) for token, logprob in pairs}

    def _text(self, token: int) -> str:
        return self.token_bytes(token).decode("utf-8", "replace")
