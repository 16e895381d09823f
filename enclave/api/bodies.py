"""Bodies of requests: JSON within bounds, off the event loop, validated. Errors name one fault, the first."""

import asyncio
import json
from typing import TypeVar

from fastapi import Request
from pydantic import ValidationError

from .errors import ApiError, from_fault
from .schemas import Strict

T = TypeVar("T", bound=Strict)

MAX_FIELDS = 64


async def parsed(request: Request, kind: type[T]) -> T:
    """The request's body as `kind`; ApiError 400 says what is wrong with it.

    Call it after the tenant was checked: nothing of the body is looked at before.
    """
    return await asyncio.to_thread(_parse, await request.body(), kind)


def _parse(raw: bytes, kind: type[T]) -> T:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not valid JSON", code="invalid_json") from None
    if not isinstance(value, dict) or len(value) > MAX_FIELDS:
        message = f"the body is not a JSON object of at most {MAX_FIELDS} fields"
        raise ApiError(400, message, code="invalid_json")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise from_fault(fault["type"], fault["loc"], fault["msg"]) from None
