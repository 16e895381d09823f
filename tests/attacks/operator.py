"""The operator as a man in the middle: a TCP relay that records, and a wire that rewrites answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from client.wire import HttpWire, WireResponse

WINDOW = 8


@dataclass
class Recorder:
    """A relay on a port of its own that keeps every byte of both directions."""

    target: str
    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    url: str = ""
    _open: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._idle.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Recorder"]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        try:
            yield self
        finally:
            server.close()
            await asyncio.wait_for(self._idle.wait(), 10)  # every relayed connection has ended

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        self._idle.clear()
        try:
            await self._relay(reader, writer)
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = urlsplit(self.target)
        up, down = await asyncio.open_connection(address.hostname, address.port)
        await asyncio.gather(_pump(reader, down, self.sent), _pump(up, writer, self.received))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, kept: bytearray) -> None:
    with suppress(OSError):  # the other side hung up
        while piece := await source.read(65536):
            kept += piece
            sink.write(piece)
            await sink.drain()
    sink.close()


def windows_found(secret: bytes, haystack: bytes) -> set[bytes]:
    """Every 8-byte window of `secret` that occurs in `haystack`, as it is or in hexadecimal."""
    windows = {secret[i : i + WINDOW] for i in range(len(secret) - WINDOW + 1)}
    lower = haystack.lower()
    return {w for w in windows if w in haystack or w.hex().encode() in lower}


@dataclass(frozen=True)
class Answer:
    """What the worker answered to `path`, for the operator to keep or to replace."""

    path: str
    status: int
    media_type: str
    body: bytes


Rewrite = Callable[[Answer], Answer]


def keep(answer: Answer) -> Answer:
    """Alter nothing."""
    return answer


class Rewriter(HttpWire):
    """A wire whose answers an operator rewrites. `requests` keeps what was sent to /ohttp."""

    def __init__(self, base: str, rewrite: Rewrite = keep) -> None:
        super().__init__(base)
        self._rewrite = rewrite
        self.requests: list[bytes] = []

    @asynccontextmanager
    async def send(self, method: str, path: str, media_type: str, body: bytes) -> AsyncIterator[WireResponse]:
        if path == "/ohttp":
            self.requests.append(body)
        async with super().send(method, path, media_type, body) as response:
            whole = b"".join([piece async for piece in response.body])
            kind = response.headers.get("content-type", "")
            answer = self._rewrite(Answer(path, response.status, kind, whole))
            yield WireResponse(answer.status, {"content-type": answer.media_type}, _once(answer.body))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
