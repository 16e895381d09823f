"""The API's paths: models, chat completions, completions."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from .answers import collect, envelope, stream
from .bodies import parsed
from .errors import install
from .schemas import ChatRequest, Common, CompletionRequest
from .service import Generation, Piece, Service
from .tenants import Tenants


def build(service: Service, tenants: Tenants) -> FastAPI:
    """The ASGI app that runs behind the seal."""

    def tenant(authorization: Annotated[str | None, Header()] = None) -> str:
        return tenants.of(authorization)

    app = FastAPI(
        title="Cloister", openapi_url=None, docs_url=None, redoc_url=None, dependencies=[Depends(tenant)]
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
    async def chat(http: Request) -> Response:
        request = await parsed(http, ChatRequest)
        service.check_model(request.model)
        turns = [message.as_turn() for message in request.messages]
        ids = await asyncio.to_thread(service.chat_ids, turns)  # tokenizing a long text takes a while
        generation = await service.start(request, ids, request.limit())
        return await _chat(request, generation)

    @app.post("/v1/completions")
    async def completions(http: Request) -> Response:
        request = await parsed(http, CompletionRequest)
        service.check_model(request.model)
        ids = await asyncio.to_thread(service.prompt_ids, request.prompt)
        generation = await service.start(request, ids, request.max_tokens or 16)
        return await _completion(request, generation)

    return app


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "cloister"}


async def _chat(request: ChatRequest, generation: Generation) -> Response:
    created = int(time.time())
    if request.stream:
        head = envelope("chat.completion.chunk", "chatcmpl", request.model, created)
        opening = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        return _events(request, head, generation, _delta, opening)
    whole = await collect(generation)
    message = {"role": "assistant", "content": whole.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": whole.finish}
    head = envelope("chat.completion", "chatcmpl", request.model, created)
    return JSONResponse(head | {"choices": [choice], "usage": generation.usage()})


async def _completion(request: CompletionRequest, generation: Generation) -> Response:
    head = envelope("text_completion", "cmpl", request.model, int(time.time()))
    if request.stream:
        return _events(request, head, generation, _text, None)
    whole = await collect(generation)
    return JSONResponse(head | {"choices": [_text(whole)], "usage": generation.usage()})


def _events(
    request: Common, head: dict[str, Any], generation: Generation, chunk: Any, opening: dict[str, Any] | None
) -> Response:
    wants_usage = request.stream_options is not None and request.stream_options.include_usage
    events = stream(head, generation, chunk, include_usage=wants_usage, opening=opening)
    return StreamingResponse(events, media_type="text/event-stream")


def _delta(piece: Piece) -> dict[str, Any]:
    delta = {"content": piece.text} if piece.text else {}
    return {"index": 0, "delta": delta, "finish_reason": piece.finish}


def _text(piece: Piece) -> dict[str, Any]:
    return {"index": 0, "text": piece.text, "logprobs": None, "finish_reason": piece.finish}
