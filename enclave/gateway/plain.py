"""The little of HTTP that the outside of a worker speaks: raw ASGI answers and bounded bodies."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]
Headers = Iterable[tuple[bytes, bytes]]

BODY_IDLE = 20.0
"""Seconds that a request's body may stand still."""

BODY_DEADLINE = 120.0
"""Seconds that a request's body may take altogether: a slow one must not hold keys or memory."""


class BodyTooLarge(Exception):
    """A body above the limit; it was not read to its end."""


class ClientGone(Exception):
    """The client left, or stopped sending, before its body was whole."""


async def body_chunks(receive: Receive, limit: int) -> AsyncIterator[bytes]:
    """The pieces of a request's body, at most `limit` bytes together.

    Raises BodyTooLarge, ClientGone (also after 20 s without a byte, or 120 s in all).
    """
    size = 0
    end = asyncio.get_running_loop().time() + BODY_DEADLINE
    while True:
        left = end - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(BODY_IDLE, max(left, 0))):
                message = await receive()
        except TimeoutError:
            raise ClientGone("too slow") from None
        if message["type"] == "http.disconnect":
            raise ClientGone("disconnected")
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise BodyTooLarge(f"more than {limit} bytes")
        if piece:
            yield piece
        if not message.get("more_body", False):
            return


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises as `body_chunks`."""
    return b"".join([piece async for piece in body_chunks(receive, limit)])


async def answer(send: Send, status: int, body: bytes, media_type: str, headers: Headers = ()) -> None:
    """One whole answer, never stored by caches."""
    fields = [
        (b"content-type", media_type.encode("ascii")),
        (b"content-length", str(len(body)).encode("ascii")),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def problem(
    send: Send, status: int, title: str, detail: str = "", *, kind: str = "about:blank", headers: Headers = ()
) -> None:
    """A problem detail (RFC 9457)."""
    await answer(send, status, problem_body(status, title, detail, kind), "application/problem+json", headers)


def problem_body(status: int, title: str, detail: str, kind: str) -> bytes:
    """The JSON of a problem detail."""
    table = {"type": kind, "title": title, "status": status}
    if detail:
        table["detail"] = detail
    return json.dumps(table).encode()
