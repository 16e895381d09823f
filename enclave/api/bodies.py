"""Bodies of requests: JSON within bounds, off the event loop, validated. Errors name one fault, the first."""

import asyncio
import json
import re
from typing import Any, TypeVar

from fastapi import Request
from pydantic import ValidationError

from .errors import ApiError, from_fault
from .schemas import Body

T = TypeVar("T", bound=Body)

MAX_FIELDS = 64
MAX_PARAM = 128
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


async def parsed(request: Request, kind: type[T]) -> T:
    """The request's body as `kind`; ApiError 400 says what is wrong with it.

    Call it after the tenant was checked: nothing of the body is looked at before.
    """
    return await asyncio.to_thread(_parse, await request.body(), kind)


def _parse(raw: bytes, kind: type[T]) -> T:
    value = _json(raw)
    if not isinstance(value, dict) or len(value) > MAX_FIELDS:
        raise _invalid(f"the body is not a JSON object of at most {MAX_FIELDS} fields")
    try:
        return kind.of(value)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise from_fault(fault["type"], fault["loc"], fault["msg"]) from None


def _json(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_not_a_number)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no character
    except UnicodeError:
        raise _invalid("the body is not valid UTF-8, or holds half a surrogate pair") from None
    except (ValueError, RecursionError):
        raise _invalid("the body is not valid JSON, or nested too deeply") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        name = _repeated([key for key, _ in pairs])
        printable = name[:MAX_PARAM].encode("utf-8", "replace").decode()
        message = f"the body has the field {printable!r} twice in one object"
        raise ApiError(400, message, param=printable, code="duplicate_field")
    return value


def _repeated(names: list[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            break
        seen.add(name)
    return name


def _not_a_number(name: str) -> None:
    raise _invalid(f"{name} is not JSON")


def _invalid(message: str) -> ApiError:
    return ApiError(400, message, code="invalid_json")
