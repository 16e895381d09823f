"""An engine that says what a test tells it to, and the app over it, called in this process."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx2

from enclave.api.app import build
from enclave.api.service import Service
from enclave.api.tenants import Tenants
from enclave.engine.interface import (
    EmbeddingEvent,
    EmbeddingRequest,
    EngineError,
    EngineStats,
    Event,
    GenerationRequest,
    Request,
    TokenEvent,
    UnknownAdapter,
)
from enclave.engine.runner import EngineRunner
from enclave.text import TextModel
from tests.running import FAQ

ROOT = b"\x01" * 32
"""The root of the scripted base model's files."""


@dataclass
class Scripted:
    """Answers each request with the next text of `says`, token by token. Keeps the requests it saw."""

    text: TextModel
    says: Callable[[GenerationRequest], str] = lambda request: "yes"
    grammars: bool = True
    context_length: int = 4096
    refuses: EngineError | None = None
    pace: float = 0.0  # seconds that a step takes at least
    adapters: frozenset[str] = frozenset({"sailor"})
    encoders: frozenset[str] = frozenset({"minilm"})
    seen: list[Request] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    _queue: list[Request] = field(default_factory=list)
    _left: dict[str, list[int]] = field(default_factory=dict)

    def prepare(self, request: GenerationRequest) -> None:
        pass

    def submit(self, request: Request) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.seen.append(request)
        self._queue.append(request)
        if isinstance(request, GenerationRequest):
            if request.adapter is not None and request.adapter not in self.adapters:
                raise UnknownAdapter(request.adapter)
            self._left[request.id] = self.text._tokenizer.encode(
                self.says(request), add_special_tokens=False
            ).ids

    def cancel(self, request_id: str) -> None:
        self.cancelled.append(request_id)
        self._queue = [request for request in self._queue if request.id != request_id]

    def has_work(self) -> bool:
        return bool(self._queue)

    def step(self) -> list[Event]:
        time.sleep(self.pace)
        return [event for request in list(self._queue) for event in self._advance(request)]

    def _advance(self, request: Request) -> list[Event]:
        if isinstance(request, EmbeddingRequest):
            self._queue.remove(request)
            return [EmbeddingEvent(id=request.id, vector=(0.6, float(len(request.prompt)), -0.8))]
        left = self._left[request.id]
        made = request.max_tokens - 1
        object.__setattr__(request, "max_tokens", made)
        if not left:
            self._queue.remove(request)
            return [TokenEvent(id=request.id, finish="stop")]
        token = left.pop(0)
        if made == 0:
            self._queue.remove(request)
        scores: dict[str, Any] = {}
        if request.logprobs is not None:
            top = tuple((token + at, -0.5 - at) for at in range(request.logprobs))
            scores = {"logprob": -0.5, "top": top}
        return [TokenEvent(id=request.id, token=token, finish=None if made else "length", **scores)]

    def stats(self) -> EngineStats:
        return EngineStats()

    def load_adapter(self, name: str, files: Any) -> None:
        raise NotImplementedError

    def load_encoder(self, name: str, files: Any) -> None:
        raise NotImplementedError

    def unload_adapter(self, name: str) -> None:
        raise NotImplementedError

    @property
    def prompts(self) -> list[str]:
        """What the model was asked, control tokens included."""
        return [self.text.decode(request.prompt) for request in self.seen]


_text = cache(TextModel)


def answers(*texts: str) -> Callable[[GenerationRequest], str]:
    """Says these, one after the other, and the last for ever."""
    left = list(texts)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


@dataclass
class Books:
    """What the app believes to be loaded; everybody may use all of it that is not `denied`."""

    roots: Mapping[str, bytes]
    denied: frozenset[str] = frozenset()

    def permits(self, name: str, tenant: str) -> bool:
        return name in self.roots and name not in self.denied

    def unchanged(self, *names: str) -> Callable[[], bool]:
        return lambda: all(name in self.roots for name in names)


@asynccontextmanager
async def app(
    engine: Scripted | None = None,
    tenants: Tenants | None = None,
    model: Path = FAQ,
    denied: Iterable[str] = (),
    **scripted: Any,
) -> AsyncIterator[tuple[httpx2.AsyncClient, Scripted]]:
    """An HTTP client of the app, and the engine behind it."""
    text = engine.text if engine is not None else _text(model)
    engine = engine or Scripted(text, **scripted)
    runner = EngineRunner(engine)
    service = Service(
        "faq",
        text,
        runner,
        holdings=Books({"faq": ROOT, "sailor": b"\x02" * 32, "minilm": b"\x03" * 32}, frozenset(denied)),
        encoders={"minilm": text},
        setting=b"test",
    )
    transport = httpx2.ASGITransport(app=build(service, tenants or Tenants()))
    try:
        async with httpx2.AsyncClient(transport=transport, base_url="http://worker") as client:
            yield client, engine
    finally:
        await asyncio.to_thread(runner.close)


async def chat(client: httpx2.AsyncClient, **fields: Any) -> httpx2.Response:
    """POST a chat request; `fields` are added to, or replace, a short question."""
    body = {"model": "faq", "messages": [{"role": "user", "content": "Hi"}]} | fields
    return await client.post("/v1/chat/completions", json=body)


async def events(client: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> list[Any]:
    """The data of every event of a stream; "[DONE]" as it is."""
    response = await client.post(path, json=body | {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    data = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


def deltas(chunks: Sequence[Any], index: int = 0) -> list[dict[str, Any]]:
    """The deltas of one choice."""
    return [
        choice["delta"]
        for chunk in chunks
        if chunk != "[DONE]"
        for choice in chunk["choices"]
        if choice["index"] == index
    ]
