"""A minimal ASGI driver: one request in, everything that came out."""

import asyncio
from dataclasses import dataclass, field

from enclave.gateway.plain import Application, Message


@dataclass
class Exchange:
    """What an application answered. `complete` is False if it never sent its last body message."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


async def call(
    app: Application,
    method: str,
    path: str,
    body: bytes | list[bytes] = b"",
    media_type: str = "",
    *,
    query: str = "",
    leave_after: int | None = None,
) -> Exchange:
    """Run one request; `leave_after` counts the body messages after which the client disconnects."""
    exchange = Exchange()
    gone = asyncio.Event()
    pieces = [body] if isinstance(body, bytes) else list(body)

    async def receive() -> Message:
        if pieces:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            exchange.headers = dict(message["headers"])
            return
        exchange.pieces.append(message.get("body", b""))
        exchange.complete = not message.get("more_body", False)
        if leave_after is not None and len(exchange.pieces) >= leave_after:
            gone.set()

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"content-type", media_type.encode())] if media_type else [],
    }
    await app(scope, receive, send)
    return exchange
