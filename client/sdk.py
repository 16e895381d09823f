"""The SDK: questions to a worker that proved itself. Async core; `client.blocking` is its thin front."""

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from attestation import Bundle, Collateral, Policy, Verdict
from attestation.encoding import b64url_encode
from sealing import bhttp

from .attested import Attested, Unattested
from .channel import Channel, Response
from .errors import ApiFailure, BrokenAnswer, NotAnAddress
from .events import event_data
from .receipts import KeptEvents, Proof, received
from .shapes import response_format, typed, vector
from .wire import HttpWire, Wire

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
CACHE_SALT: Final = b"cloister-cache-salt"
SALT_SIZE: Final = 32
T = TypeVar("T")
Messages = str | Sequence[dict[str, Any]]
"""A question, or a conversation in OpenAI's form."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its text, the model that gave it, why it ended, token counts as OpenAI spells them.

    `receipt` is there if it was asked for; `tool_calls` are calls of functions, as OpenAI spells them.
    """

    text: str
    model: str
    finish_reason: str
    usage: dict[str, int]
    receipt: Proof | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()


class AnswerStream(AsyncIterator[str]):
    """The pieces of an answer. After the last, `receipt` is there if it was asked for."""

    def __init__(self, pieces: Callable[["AnswerStream"], AsyncGenerator[str]]) -> None:
        self.receipt: Proof | None = None
        self._pieces = pieces(self)

    async def __anext__(self) -> str:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        """Leave early: the worker is told to stop."""
        await self._pieces.aclose()


def _base(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # half an IPv6 address, or a port that is none
        usable = False
    if not usable:
        raise NotAnAddress(f"{url!r} is not a worker's address, http://HOST:PORT or https://HOST:PORT")
    return f"{parts.scheme}://{parts.netloc}"


class AsyncClient:
    """A relying party's view of one worker.

    `url` is the worker's address, `policy` what it must prove, `token` a tenant's bearer token
    (sent only inside the seal). `cache_salt` lets the worker reuse what it computed for beginnings of
    prompts, among requests with the same salt alone: True makes a random one for this client, bytes (16 to
    64) are taken as they are, for clients that trust each other, False shares nothing, not even with
    yourself. Attests on first use; keeps the verdict; attests again when it has
    aged or the worker's keys or workload changed. Raises NotAnAddress, and InsecureAddress for a
    simulated worker that is not on loopback, on construction.
    """

    def __init__(
        self,
        url: str,
        policy: Policy,
        *,
        token: str | None = None,
        cache_salt: bytes | bool = True,
        collateral: Collateral | None = None,
        wire: Wire | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        base = _base(url)
        effects = {"clock": clock} if clock else {}
        self._worker = Unattested(
            url=base,
            policy=policy,
            wire=wire or HttpWire(base),
            collateral=collateral or Collateral(),
            **effects,
        )
        self._channel = Channel(self._worker)
        self._authority = urlsplit(url).netloc
        self._headers = _own_headers(token, cache_salt)

    @property
    def verdict(self) -> Verdict | None:
        """The latest accepted verdict; None before the first use."""
        return self._channel.verdict

    async def attest(self) -> Attested:
        """Attest now unless a verdict still holds. Raises attestation.Rejected and MalformedEvidence."""
        return await self._channel.attest()

    async def examine(self) -> tuple[Bundle, Verdict]:
        """Fresh evidence and its verdict, accepted or not; the channel is left as it is."""
        return await self._worker.examine()

    def request(
        self, method: str, path: str, body: bytes = b"", headers: bhttp.Fields = (), *, receipt: bool = False
    ) -> AbstractAsyncContextManager[Response]:
        """One sealed HTTP request to the worker's API; an async context manager over its response.

        With `receipt`, give the response and both bodies to `client.receipts.received` at the end.
        """
        own = dict(self._headers)
        fields = (*(field for field in headers if field[0] not in own), *self._headers)
        request = bhttp.Request(method, "https", self._authority, path, fields, body)
        return self._channel.send(request, receipt=receipt)

    async def models(self) -> list[str]:
        """The names of what is loaded, the base model first."""
        async with self.request("GET", "/v1/models") as response:
            value = await _json(response)
        with _openai_form():
            return [model["id"] for model in value["data"]]

    async def ask(
        self, messages: Messages, *, model: str | None = None, receipt: bool = False, **options: Any
    ) -> Answer:
        """The whole answer. `options` are OpenAI's: temperature, top_p, seed, max_tokens, stop...

        Raises ApiFailure for an error of the API, ReceiptRefused, and what `Channel.send` raises.
        """
        body = await self._body(messages, model, options)
        async with self.request("POST", CHAT, body, _JSON, receipt=receipt) as response:
            raw = await response.read()
            value = _checked(response, raw)
            proof = received(response, body, raw) if receipt else None
        with _openai_form():
            choice = value["choices"][0]
            message = choice["message"]
            calls = tuple(message.get("tool_calls") or ())
            text = message["content"] or ""
            return Answer(text, value["model"], choice["finish_reason"], value["usage"], proof, calls)

    async def parse(
        self, messages: Messages, shape: type[T], *, model: str | None = None, **options: Any
    ) -> T:
        """The answer as an object of `shape`: a Pydantic model, or a type that pydantic can describe.

        The worker holds the answer to the JSON Schema. Raises ShapeMismatch, ApiFailure (400 says where the
        schema cannot be honoured), ImportError without pydantic, and what `ask` raises.
        """
        answer = await self.ask(
            messages, model=model, **options | {"response_format": response_format(shape)}
        )
        return typed(shape, answer.text, answer.finish_reason)

    async def embed(self, texts: str | Sequence[str], *, model: str | None = None) -> list[tuple[float, ...]]:
        """One vector of length 1 for each text. `model` is an encoder; the first one if left out."""
        name = model or await self._loaded(1, "the worker has no encoder loaded")
        body = {"model": name, "input": texts, "encoding_format": "base64"}
        async with self.request("POST", EMBEDDINGS, json.dumps(body).encode(), _JSON) as response:
            value = await _json(response)
        with _openai_form():
            return [vector(item["embedding"]) for item in value["data"]]

    def stream(
        self, messages: Messages, *, model: str | None = None, receipt: bool = False, **options: Any
    ) -> AnswerStream:
        """The answer piece by piece. An answer that stops early raises BrokenAnswer; see also `ask`."""

        async def pieces(answer: AnswerStream) -> AsyncGenerator[str]:
            body = await self._body(messages, model, options | {"stream": True})
            async with self.request("POST", CHAT, body, _JSON, receipt=receipt) as response:
                if response.status != 200:
                    raise _failure(response.status, await response.read())
                kept = KeptEvents()
                async with aclosing(_deltas(kept.of(response.body) if receipt else response.body)) as deltas:
                    async for piece in deltas:
                        yield piece
                if receipt:
                    answer.receipt = received(response, body, kept.text())

        return AnswerStream(pieces)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _body(self, messages: Messages, model: str | None, options: dict[str, Any]) -> bytes:
        turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        name = model or await self._loaded(0, "the worker has no model loaded")
        return json.dumps({"model": name, "messages": turns} | options).encode()

    async def _loaded(self, at: int, otherwise: str) -> str:
        """The name of what is loaded at this place: the model first, encoders after it."""
        attested = await self.attest()
        models = attested.verdict.claims["bundle"]["models"]
        if len(models) <= at:
            raise ApiFailure(404, {"message": otherwise})
        return str(models[at]["name"])


_JSON: bhttp.Fields = ((b"content-type", b"application/json"),)


def _own_headers(token: str | None, cache_salt: bytes | bool) -> bhttp.Fields:
    """Fields of every request, instead of those that a caller's own client makes."""
    salt = os.urandom(SALT_SIZE) if cache_salt is True else cache_salt
    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    if salt:
        headers.append((CACHE_SALT, b64url_encode(salt).encode()))
    return tuple(headers)


async def _json(response: Response) -> Any:
    return _checked(response, await response.read())


def _checked(response: Response, raw: bytes) -> Any:
    """The JSON of an answer; ApiFailure for an error."""
    if response.status != 200:
        raise _failure(response.status, raw)
    return _parse(raw)


def _parse(raw: bytes | str) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise BrokenAnswer("the worker's answer is not JSON") from None


def _failure(status: int, raw: bytes) -> ApiFailure:
    value = _parse(raw)
    error = value.get("error") if isinstance(value, dict) else None
    return ApiFailure(status, error if isinstance(error, dict) else {"message": "no reason given"})


@contextmanager
def _openai_form() -> Iterator[None]:
    """BrokenAnswer for a value that lacks a member which OpenAI's answers have."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError):
        raise BrokenAnswer("the worker's answer is not of OpenAI's form") from None


def _texts(event: Any) -> list[str]:
    """The pieces of text in an event of a chat stream. Raises ApiFailure, BrokenAnswer."""
    with _openai_form():
        if "error" in event:
            raise ApiFailure(500, event["error"])
        return [text for choice in event["choices"] if (text := choice["delta"].get("content"))]


async def _deltas(body: AsyncIterator[bytes]) -> AsyncGenerator[str]:
    """Text pieces of a chat stream; ApiFailure for an error event, BrokenAnswer without [DONE]."""
    async for data in event_data(body):
        if data == "[DONE]":
            # The final chunk must still follow: reading on raises BrokenAnswer if it does not.
            async for _ in body:
                pass
            return
        for text in _texts(_parse(data)):
            yield text
    raise BrokenAnswer("the stream ended without [DONE]")
