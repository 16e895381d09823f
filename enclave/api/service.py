"""From a request's text to answers in the making: tokenizer on this side, engine on the other."""

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from attestation.binding import sha256
from attestation.encoding import lp
from enclave.engine.interface import (
    EmbeddingRequest,
    EngineError,
    GenerationRequest,
    PromptTooLong,
    Sampling,
    TokenEvent,
)
from enclave.engine.runner import EngineRunner, Still, TokenStream, always
from enclave.text import TextModel, UnsupportedChat

from .errors import ApiError, from_engine, unknown_model
from .generation import Generation, Plain
from .schemas import Common
from .shapes import Shape
from .sharing import fresh_share, share_key
from .tenants import Tenant

MAX_TOKEN_CHARACTERS = 64
EMBEDDED_AT_ONCE = 32
"""Texts of one request that are at the engine together: one request must not fill its queue."""


class Held(Protocol):
    """The books of what is loaded (artifacts/holdings.py)."""

    @property
    def roots(self) -> Mapping[str, bytes]:
        """Roots of everything that may be used, by name."""

    def permits(self, name: str, tenant: str) -> bool:
        """Whether its owner lets `tenant` use it."""

    def unchanged(self, *names: str) -> Still:
        """Whether it is still what it was when this request was opened."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and the salt of the prefix cache that came along."""

    tenant: Tenant
    salt: bytes | None = field(default=None, repr=False)


class Service:
    """The loaded model, its adapters and encoders, as the API names them. `created` is Unix seconds.

    `holdings` says what may be used, by whom, and the roots of its files; without it everything may, and
    nothing has a known root. `setting` is what else decides an answer: software, engine options.
    """

    def __init__(
        self,
        name: str,
        text: TextModel,
        runner: EngineRunner,
        *,
        holdings: Held | None = None,
        encoders: Mapping[str, TextModel] | None = None,
        setting: bytes = b"",
    ) -> None:
        self.name = name
        self.created = int(time.time())
        self.text = text
        self._setting = setting
        self._runner = runner
        self._holdings = holdings
        self._encoders = dict(encoders or {})

    @property
    def masks(self) -> bool:
        """Whether the engine holds answers to a grammar."""
        return self._runner.grammars

    def names(self) -> list[str]:
        """What a request may ask for, the base model first, encoders last."""
        return [*self._generators(), *self._usable(sorted(self._encoders))]

    def check_model(self, name: str) -> None:
        """ApiError 404 unless `name` is loaded."""
        if name not in self.names():
            raise unknown_model(name, self.names())

    def check_generator(self, name: str) -> None:
        """ApiError 404 unless `name` generates text."""
        if name not in self._generators():
            raise unknown_model(name, self._generators())

    def _generators(self) -> list[str]:
        return self._usable([self.name, *sorted(self._runner.adapters)])

    def _usable(self, names: list[str]) -> list[str]:
        return names if self._holdings is None else [name for name in names if name in self._holdings.roots]

    def fingerprint(self, model: str) -> str:
        """What decides an answer of `model` besides its request: setting, base model, adapter."""
        roots = self._holdings.roots if self._holdings is not None else {}
        parts = (self._setting, roots.get(self.name, b""), roots.get(model, b""))
        return f"fp_{sha256(b''.join(lp(part) for part in parts)).hex()[:16]}"

    def chat_ids(
        self, turns: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[int, ...]:
        """Token ids of a conversation; ApiError 400 if the model cannot take it."""
        self._check_length(sum(len(turn["content"]) for turn in turns), "messages")
        try:
            return self.text.conversation(turns, tools)
        except (UnsupportedChat, ValueError) as error:
            raise ApiError(400, str(error), param="messages") from None

    def prompt_ids(self, prompt: str | list[int]) -> tuple[int, ...]:
        """Token ids of a raw prompt; ApiError 400 for one that is empty, too long or out of vocabulary."""
        if isinstance(prompt, str):
            self._check_length(len(prompt), "prompt")
        return _ids(self.text, prompt, "prompt")

    def _check_length(self, characters: int, param: str) -> None:
        """ApiError 400 for a text that cannot fit, before time is spent on tokenizing it."""
        limit = self._runner.context_length * MAX_TOKEN_CHARACTERS
        if characters > limit:
            message = f"the prompt has {characters} characters; it cannot fit. Shorten the prompt"
            raise ApiError(400, message, param=param, code="context_length_exceeded")

    async def start(
        self,
        request: Common,
        caller: Caller,
        ids: tuple[int, ...],
        *,
        limit: int | None,
        count: int = 1,
        scores: int | None = None,
        shape: Shape | None = None,
    ) -> list[Generation]:
        """Hand `count` answers to one prompt to the engine; ApiError if it will not take them all.

        The others begin when the first has its first token, so that they find its prompt in the cache.
        `shape` is masked and read only where the engine has masks.
        """
        self._check_permitted(caller, self.name, request.model)
        still = self._unchanged(self.name, request.model)
        masked = shape if shape is not None and self.masks else None
        try:
            first = self._request(request, caller, ids, limit, scores, masked, alone=count == 1)
            streams = await self._submit(first, count, still)
        except EngineError as error:
            raise from_engine(error, request.prompt_field) from None
        reader = masked.reader if masked is not None else Plain
        return [Generation(stream, self.text, request.stops(), reader(), event) for stream, event in streams]

    async def _submit(
        self, first: GenerationRequest, count: int, still: Still
    ) -> list[tuple[TokenStream, TokenEvent | None]]:
        stream = await self._runner.submit(first, still)
        streams: list[tuple[TokenStream, TokenEvent | None]] = [(stream, None)]
        try:
            if count > 1:
                streams = [(stream, await stream.__anext__())]
            for at in range(1, count):
                streams.append((await self._runner.submit(_sibling(first, at), still), None))
        except BaseException:  # cancelled or refused: what was begun must not go on
            for begun, _ in streams:
                begun.close()
            raise
        return streams

    def _request(
        self,
        request: Common,
        caller: Caller,
        ids: tuple[int, ...],
        limit: int | None,
        scores: int | None,
        shape: Shape | None,
        *,
        alone: bool,
    ) -> GenerationRequest:
        room = self._runner.context_length - len(ids)
        if room < 1:
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens; prompt and answer share {self._runner.context_length}"
            )
        share = self._share(request.model, caller)
        return GenerationRequest(
            id=uuid.uuid4().hex,
            prompt=ids,
            sampling=self._sampling(request),
            max_tokens=min(limit or room, room),
            eos=self.text.eos,
            adapter=None if request.model == self.name else request.model,
            tenant=caller.tenant.name,
            priority=caller.tenant.priority,
            share=share if alone or share is not None else fresh_share(),
            grammar=shape.grammar() if shape is not None else None,
            logprobs=scores,
        )

    def _unchanged(self, *names: str) -> Still:
        return always if self._holdings is None else self._holdings.unchanged(*names)

    def _check_permitted(self, caller: Caller, *names: str) -> None:
        """ApiError 403 unless the owners of all of `names` let the caller's tenant use them."""
        if self._holdings is None:
            return
        for name in dict.fromkeys(names):
            if not self._holdings.permits(name, caller.tenant.name):
                message = f"the owner of {name!r} does not let you use it"
                raise ApiError(403, message, kind="permission_error", param="model", code="not_permitted")

    def _share(self, model: str, caller: Caller) -> bytes | None:
        """None without a salt, and for an adapter whose files have no known root."""
        roots = self._holdings.roots if self._holdings is not None else {}
        base, own = roots.get(self.name), roots.get(model)
        if base is None or own is None:
            return None
        adapter = b"" if model == self.name else own
        return share_key(caller.salt, caller.tenant.name, base, adapter)

    def _sampling(self, request: Common) -> Sampling:
        """The request's sampling, OpenAI's defaults filled in. ApiError 400 for unknown tokens."""
        bias = request.biases()
        if any(token >= self.text.vocabulary for token, _ in bias):
            raise ApiError(400, "logit_bias: a token id is outside the vocabulary", param="logit_bias")
        return Sampling(
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=1.0 if request.top_p is None else request.top_p,
            top_k=request.top_k or 0,
            seed=request.seed,
            frequency_penalty=request.frequency_penalty or 0.0,
            presence_penalty=request.presence_penalty or 0.0,
            logit_bias=bias,
        )

    def embedding_ids(self, model: str, inputs: Sequence[str | list[int]]) -> list[tuple[int, ...]]:
        """Token ids of texts for an encoder; ApiError 404 if it is not loaded, 400 for a bad text."""
        known = self._usable(sorted(self._encoders))
        if model not in known:
            raise unknown_model(model, known)
        return [_ids(self._encoders[model], text, "input") for text in inputs]

    async def embed(
        self, model: str, caller: Caller, prompts: Sequence[tuple[int, ...]]
    ) -> list[tuple[float, ...]]:
        """One vector a prompt, batched by the engine; ApiError if it may not, will not or cannot."""
        self._check_permitted(caller, model)
        still = self._unchanged(model)
        turn = asyncio.Semaphore(EMBEDDED_AT_ONCE)

        async def one(ids: tuple[int, ...]) -> tuple[float, ...]:
            async with turn:
                return await self._embed_one(model, caller, ids, still)

        tasks = [asyncio.ensure_future(one(ids)) for ids in prompts]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _embed_one(
        self, model: str, caller: Caller, ids: tuple[int, ...], still: Still
    ) -> tuple[float, ...]:
        request = EmbeddingRequest(
            id=uuid.uuid4().hex,
            prompt=ids,
            encoder=model,
            tenant=caller.tenant.name,
            priority=caller.tenant.priority,
        )
        try:
            event = await self._runner.embed(request, still)
        except EngineError as error:
            raise from_engine(error, "input") from None
        if event.vector is None:
            raise ApiError(500, "the engine could not embed this text", kind="server_error")
        return event.vector


def _sibling(first: GenerationRequest, at: int) -> GenerationRequest:
    """The same request once more, with random numbers of its own."""
    seed = first.sampling.seed
    if seed is not None:
        seed = (seed + at + 2**63) % 2**64 - 2**63
    return replace(first, id=uuid.uuid4().hex, sampling=replace(first.sampling, seed=seed))


def _ids(text: TextModel, given: str | list[int], param: str) -> tuple[int, ...]:
    if isinstance(given, list):
        if not all(0 <= token < text.vocabulary for token in given):
            raise ApiError(400, f"{param}: a token id is outside the vocabulary", param=param)
        return tuple(given)
    try:
        ids = text.encode(given)
    except ValueError as error:
        raise ApiError(400, str(error), param=param) from None
    if not ids or not given:
        raise ApiError(400, f"{param}: is empty", param=param)
    return ids
