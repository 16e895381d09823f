"""The broker over HTTP: /kbs/v0/..., /healthz, /metrics. Nothing else answers; no body is logged."""

import logging
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from sealing.kbs.messages import MAX_ATTESTATION

from .errors import BrokerError
from .replies import Problem, Reply, unavailable
from .service import Call, Service
from .sessions import COOKIE

log = logging.getLogger(__name__)
MAX_BODY: Final = MAX_ATTESTATION
MAX_SEGMENTS: Final = 8


def build(service: Service) -> FastAPI:
    """The ASGI application."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)

    @app.get("/healthz")
    async def healthz() -> Response:
        try:
            await run_in_threadpool(service.check)
        except BrokerError as error:
            log.error("%s", error)
            return Response(b"the store does not answer\n", 503, media_type="text/plain")
        return Response(b"ok\n", media_type="text/plain")

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.render(), media_type="text/plain; version=0.0.4")

    @app.api_route("/kbs/v0/{path:path}", methods=["GET", "POST", "DELETE"])
    async def kbs(path: str, request: Request) -> Response:
        try:
            body = await _body(request)
        except Problem as problem:
            return _response(problem.reply())
        call = Call(
            method=request.method,
            path=tuple(path.split("/", MAX_SEGMENTS)),
            session=request.cookies.get(COOKIE),
            bearer=_bearer(request),
            body=body,
        )
        return _response(await run_in_threadpool(_handle, service, call))

    return app


def _handle(service: Service, call: Call) -> Reply:
    try:
        return service.handle(call)
    except BrokerError as error:
        log.error("%s", error)
        return unavailable("the broker cannot reach its store; nothing was released").reply()


async def _body(request: Request) -> bytes:
    pieces = bytearray()
    async for piece in request.stream():
        pieces += piece
        if len(pieces) > MAX_BODY:
            raise Problem(413, "PayloadTooLarge", f"a body has at most {MAX_BODY} bytes")
    return bytes(pieces)


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _response(reply: Reply) -> Response:
    headers = {**reply.headers, "cache-control": "no-store"}
    return Response(reply.body, reply.status, headers, reply.media_type if reply.body else None)
