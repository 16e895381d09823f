"""Errors in OpenAI's shape: {"error": {"message", "type", "param", "code"}}."""

import math

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from enclave.engine.interface import (
    DeviceLost,
    EngineError,
    InvalidRequest,
    Overloaded,
    PromptTooLong,
    Swapped,
    UnknownAdapter,
    UnknownEncoder,
)

MAX_PARAM = 128
SERVED = "/v1/models, /v1/chat/completions, /v1/completions, /v1/embeddings"


class ApiError(Exception):
    """An answer of `status` with OpenAI's `type`, `code` and the offending `param`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        self.headers = {"retry-after": str(retry_after)} if retry_after is not None else None


def from_engine(error: EngineError, param: str | None = None) -> ApiError:
    """What a client is told of an engine's refusal; `param` is the field that held the prompt."""
    match error:
        case Overloaded():
            after = max(1, math.ceil(error.retry_after))
            return ApiError(429, str(error), kind="rate_limit_error", code="overloaded", retry_after=after)
        case PromptTooLong():
            message = f"{error}; shorten the prompt"
            return ApiError(400, message, param=param, code="context_length_exceeded")
        case UnknownAdapter() | UnknownEncoder():
            return ApiError(404, str(error), param="model", code="model_not_found")
        case Swapped():
            return ApiError(409, str(error), param="model", code="model_changed")
        case InvalidRequest():
            return ApiError(400, str(error), param=param, code="invalid_request")
        case DeviceLost():
            return ApiError(503, str(error), kind="server_error", code="device_lost", retry_after=5)
    return ApiError(500, "the engine could not answer", kind="server_error")


def unknown_model(name: str, known: list[str]) -> ApiError:
    """404 with the names that would have worked."""
    message = f"model {name[:MAX_PARAM]!r} is not loaded; loaded: {', '.join(known) or 'none of that kind'}"
    return ApiError(404, message, param="model", code="model_not_found")


def install(app: FastAPI) -> None:
    """Answer every error of `app` in OpenAI's shape."""
    app.exception_handler(ApiError)(_api_error)
    app.exception_handler(HTTPException)(_http_error)


async def _api_error(_: Request, error: ApiError) -> JSONResponse:
    return JSONResponse(error.body, error.status, headers=error.headers)


async def _http_error(_: Request, error: HTTPException) -> JSONResponse:
    wrapped = ApiError(error.status_code, f"{error.detail}; served: {SERVED}")
    return JSONResponse(wrapped.body, error.status_code)


def from_fault(kind: str, place: tuple[int | str, ...], message: str) -> ApiError:
    """What a client is told of the first fault that validation found, in pydantic's terms."""
    param = ".".join(str(part) for part in place)[:MAX_PARAM]
    if kind == "extra_forbidden":
        text = f"{param} is not supported by this worker; leave it out"
        return ApiError(400, text, param=param, code="unsupported")
    reason = message.removeprefix("Value error, ")
    return ApiError(400, f"{param}: {reason}" if param else reason, param=param or None)
