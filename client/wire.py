"""The network, behind one small interface. Everything that crosses it is public or sealed."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

from .errors import Unreachable

if TYPE_CHECKING:
    import aiohttp

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 300.0
CONNECTIONS = 512


@dataclass(frozen=True, slots=True)
class WireResponse:
    """Status, lower-case headers and the body as it arrives."""

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]


class Wire(Protocol):
    """Sends one request to the worker. Errors of the network are Unreachable, also from the body."""

    def send(
        self, method: str, path: str, media_type: str, body: bytes
    ) -> AbstractAsyncContextManager[WireResponse]:
        """A context in which the response can be read; leaving it gives up the rest of the body."""

    async def close(self) -> None:
        """Close all connections."""


class HttpWire:
    """`Wire` over aiohttp. `base` is the worker's URL, without a path of its own."""

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def send(self, method: str, path: str, media_type: str, body: bytes) -> AsyncIterator[WireResponse]:
        """See `Wire`. Redirects are not followed."""
        import aiohttp

        headers = {"content-type": media_type, "accept-encoding": "identity"}
        try:
            async with self._connected().request(
                method, self._base + path, data=body, headers=headers, allow_redirects=False
            ) as response:
                lower = {name.lower(): value for name, value in response.headers.items()}
                yield WireResponse(response.status, lower, _body(response))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{self._base}: {error or type(error).__name__}") from None

    async def close(self) -> None:
        """See `Wire`."""
        if self._session is not None:
            await self._session.close()

    def _connected(self) -> "aiohttp.ClientSession":
        import aiohttp

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT)
            self._session = aiohttp.ClientSession(
                timeout=timeout,
                connector=_quiet_connector()(limit=CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
            )
            weakref.finalize(self, _let_go, self._session, asyncio.get_running_loop())
        return self._session


@cache
def _quiet_connector() -> "type[aiohttp.TCPConnector]":
    """aiohttp's connector, which says nothing when it was not closed: `_let_go` sees to that."""
    import aiohttp

    class Connector(aiohttp.TCPConnector):
        def __del__(self, *_: object) -> None:
            """Nothing to say."""

    return Connector


def _let_go(session: "aiohttp.ClientSession", loop: asyncio.AbstractEventLoop) -> None:
    """Nobody has the wire any more: close what it opened, or, where its loop is gone, say nothing of it."""
    if loop.is_closed():
        session.detach()
    elif not session.closed:
        loop.call_soon_threadsafe(lambda: loop.create_task(session.close()))


async def _body(response: "aiohttp.ClientResponse") -> AsyncIterator[bytes]:
    import aiohttp

    try:
        async for piece in response.content.iter_any():
            yield piece
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unreachable(f"the connection broke off: {error or type(error).__name__}") from None


async def read_all(response: WireResponse, limit: int) -> bytes:
    """The whole body, at most `limit` bytes; more is Unreachable."""
    pieces = bytearray()
    async for piece in response.body:
        pieces += piece
        if len(pieces) > limit:
            raise Unreachable(f"the worker sends more than {limit} bytes")
    return bytes(pieces)
