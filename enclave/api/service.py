"""From a request's text to pieces of an answer: tokenizer on this side, engine on the other."""

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from enclave.engine.interface import EngineError, GenerationRequest, PromptTooLong, Sampling
from enclave.engine.runner import EngineRunner, TokenStream
from enclave.receipts.account import note
from enclave.text import StopStrings, TextModel, UnsupportedChat

from .errors import ApiError, from_engine, unknown_model
from .schemas import Common

Reason = Literal["stop", "length"]
MAX_TOKEN_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of an answer; `finish` is set on the last piece only."""

    text: str = field(repr=False)
    finish: Reason | None = None


class Generation:
    """One answer as it is made. Iterate `pieces` once; leaving early cancels the request."""

    def __init__(
        self, stream: TokenStream, text: TextModel, stops: Sequence[str], prompt_tokens: int
    ) -> None:
        self._stream = stream
        self._detokenizer = text.detokenizer()
        self._stops = StopStrings(stops)
        self._prompt_tokens = prompt_tokens
        self._completion_tokens = 0

    def usage(self) -> dict[str, int]:
        """Token counts so far, as OpenAI spells them."""
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
            "total_tokens": self._prompt_tokens + self._completion_tokens,
        }

    async def pieces(self) -> AsyncGenerator[Piece]:
        """Text as it becomes known; ApiError if the engine fails."""
        async with self._stream as events:
            try:
                async for event in events:
                    text = ""
                    if event.token is not None:
                        self._completion_tokens += 1
                        text = self._stops.push(self._detokenizer.push(event.token))
                    if self._stops.stopped:
                        yield Piece(text, "stop")
                        return
                    if event.finish in ("error", "cancelled"):
                        raise ApiError(500, "the engine could not finish this answer", kind="server_error")
                    if event.finish is not None:
                        yield self._last(text, event.finish)
                        return
                    if text:
                        yield Piece(text)
            except EngineError as error:
                raise from_engine(error) from None

    def _last(self, text: str, finish: str) -> Piece:
        text += self._stops.push(self._detokenizer.flush())
        if self._stops.stopped:
            return Piece(text, "stop")
        return Piece(text + self._stops.flush(), "length" if finish == "length" else "stop")


class Service:
    """The loaded model and its adapters, as the API names them. `created` is Unix seconds."""

    def __init__(self, name: str, text: TextModel, runner: EngineRunner) -> None:
        self.name = name
        self.created = int(time.time())
        self._text = text
        self._runner = runner

    def names(self) -> list[str]:
        """What a request may ask for, the base model first."""
        return [self.name, *sorted(self._runner.adapters)]

    def check_model(self, name: str) -> None:
        """ApiError 404 unless `name` is loaded."""
        if name not in self.names():
            raise unknown_model(name, self.names())

    def chat_ids(self, turns: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Token ids of a conversation; ApiError 400 if the model cannot take it."""
        self._check_length(sum(len(turn["content"]) for turn in turns), "messages")
        try:
            return self._text.chat(turns)
        except (UnsupportedChat, ValueError) as error:
            raise ApiError(400, str(error), param="messages") from None

    def prompt_ids(self, prompt: str | list[int]) -> tuple[int, ...]:
        """Token ids of a raw prompt; ApiError 400 for one that is empty, too long or out of vocabulary."""
        if isinstance(prompt, list):
            if not all(0 <= token < self._text.vocabulary for token in prompt):
                raise ApiError(400, "prompt: a token id is outside the vocabulary", param="prompt")
            return tuple(prompt)
        self._check_length(len(prompt), "prompt")
        try:
            ids = self._text.encode(prompt)
        except ValueError as error:
            raise ApiError(400, str(error), param="prompt") from None
        if not ids:
            raise ApiError(400, "prompt: is empty", param="prompt")
        return ids

    def _check_length(self, characters: int, param: str) -> None:
        """ApiError 400 for a text that cannot fit, before time is spent on tokenizing it."""
        limit = self._runner.context_length * MAX_TOKEN_CHARACTERS
        if characters > limit:
            message = f"the prompt has {characters} characters; it cannot fit. Shorten the prompt"
            raise ApiError(400, message, param=param, code="context_length_exceeded")

    async def start(self, request: Common, ids: tuple[int, ...], limit: int | None) -> Generation:
        """Hand a request to the engine; ApiError if it will not take it."""
        room = self._runner.context_length - len(ids)
        try:
            if room < 1:
                raise PromptTooLong(
                    f"the prompt has {len(ids)} tokens; prompt and answer share {self._runner.context_length}"
                )
            stream = await self._runner.submit(
                GenerationRequest(
                    id=uuid.uuid4().hex,
                    prompt=ids,
                    sampling=_sampling(request),
                    max_tokens=min(limit or room, room),
                    eos=self._text.eos,
                    adapter=None if request.model == self.name else request.model,
                )
            )
        except EngineError as error:
            raise from_engine(error, request.prompt_field) from None
        generation = Generation(stream, self._text, request.stops(), len(ids))
        note(request.model, generation.usage)
        return generation


def _sampling(request: Common) -> Sampling:
    """The request's sampling; what it leaves out has OpenAI's default."""
    return Sampling(
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        top_k=request.top_k or 0,
        seed=request.seed,
    )
