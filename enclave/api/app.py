"""The API's paths: models, chat completions, completions, embeddings."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from enclave.receipts.account import note

from .answers import Form, collect, head, stream, usage
from .bodies import parsed
from .chat import ChatRequest
from .completing import complete
from .conversing import converse
from .embeddings import embeddings
from .errors import install
from .held import Answering
from .schemas import Common, CompletionRequest, EmbeddingsRequest
from .service import Caller, Service
from .sharing import salt_of
from .tenants import Tenants


def build(service: Service, tenants: Tenants) -> FastAPI:
    """The ASGI app that runs behind the seal."""

    def caller(
        authorization: Annotated[str | None, Header()] = None,
        cloister_cache_salt: Annotated[str | None, Header()] = None,
    ) -> Caller:
        return Caller(tenants.of(authorization), salt_of(cloister_cache_salt))

    who = Annotated[Caller, Depends(caller)]
    app = FastAPI(
        title="Cloister", openapi_url=None, docs_url=None, redoc_url=None, dependencies=[Depends(caller)]
    )
    install(app)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(name, service.created) for name in service.names()]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        service.check_model(name)
        return _model(name, service.created)

    @app.post("/v1/chat/completions")
    async def chat(http: Request, caller: who) -> Response:
        request = await parsed(http, ChatRequest)
        service.check_generator(request.model)
        conversation = await converse(service, request, caller)
        return await _answer(service, request, *conversation)

    @app.post("/v1/completions")
    async def completions(http: Request, caller: who) -> Response:
        request = await parsed(http, CompletionRequest)
        service.check_generator(request.model)
        completion = await complete(service, request, caller)
        return await _answer(service, request, *completion)

    @app.post("/v1/embeddings")
    async def embed(http: Request, caller: who) -> Response:
        request = await parsed(http, EmbeddingsRequest)
        prompts = await asyncio.to_thread(service.embedding_ids, request.model, request.inputs())
        return JSONResponse(await embeddings(service, request, caller, prompts))

    return app


class EventResponse(StreamingResponse):
    """An event stream that cancels its answers when it ends, however that comes about."""

    def __init__(self, events: AsyncGenerator[bytes], answers: Sequence[Answering]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._events = events
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            for answer in self._answers:
                answer.close()
            await self._events.aclose()


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "cloister"}


async def _answer(
    service: Service, request: Common, answers: Sequence[Answering], form: Form, prompt_tokens: int
) -> Response:
    created = int(time.time())

    def counts() -> dict[str, int]:
        return usage(prompt_tokens, answers)

    note(request.model, counts)
    if request.stream:
        repeated = head(
            form.stream_object, form.prefix, request.model, created, service.fingerprint(request.model)
        )
        events = stream(repeated, answers, form, counts if request.wants_usage() else None)
        return EventResponse(events, answers)
    wholes = await collect(answers)
    repeated = head(form.object, form.prefix, request.model, created, service.fingerprint(request.model))
    choices = [form.whole(index, answer) for index, answer in enumerate(wholes)]
    return JSONResponse(repeated | {"choices": choices, "usage": counts()})
