"""OpenAI's client over the sealed channel: `OpenAI(base_url=..., api_key=..., http_client=http_client(...))`.

The transports plug into httpx2, which the openai package is built on. What it would send over
TLS goes inside the seal, the bearer token too. A worker that is rejected raises
attestation.Rejected with the verdict; errors of this package come through as they are.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from attestation import Policy
from sealing import bhttp

from .blocking import Loop
from .channel import Response
from .sdk import AsyncClient

DROPPED = bhttp.CONNECTION_FIELDS | {b"host", b"content-length", b"accept-encoding"}


class AsyncSealedTransport(httpx2.AsyncBaseTransport):
    """An httpx2 transport that seals every request to one attested worker."""

    def __init__(self, url: str, policy: Policy, **options: Any) -> None:
        self._client = AsyncClient(url, policy, **options)
        self._netloc = urlsplit(url).netloc

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Seal, send, open. A request for another host is refused."""
        exchange = begin(self._client, request, self._netloc, await request.aread())
        response = await exchange.__aenter__()
        return httpx2.Response(
            response.status, headers=list(response.headers), stream=_AsyncBody(response, exchange)
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class SealedTransport(httpx2.BaseTransport):
    """`AsyncSealedTransport` for blocking callers."""

    def __init__(self, url: str, policy: Policy, **options: Any) -> None:
        self._client = AsyncClient(url, policy, **options)
        self._netloc = urlsplit(url).netloc
        self._loop = Loop()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Seal, send, open. A request for another host is refused."""
        exchange = begin(self._client, request, self._netloc, request.read())
        response = self._loop.run(_enter(exchange))
        return httpx2.Response(
            response.status, headers=list(response.headers), stream=_Body(response, exchange, self._loop)
        )

    def close(self) -> None:
        """Close the connections and stop the thread."""
        self._loop.run(self._client.aclose())
        self._loop.close()


class _AsyncBody(httpx2.AsyncByteStream):
    def __init__(self, response: Response, exchange: AbstractAsyncContextManager[Response]) -> None:
        self._response = response
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.body:
            yield piece

    async def aclose(self) -> None:
        await self._exchange.__aexit__(None, None, None)


class _Body(httpx2.SyncByteStream):
    def __init__(
        self, response: Response, exchange: AbstractAsyncContextManager[Response], loop: Loop
    ) -> None:
        self._response = response
        self._exchange = exchange
        self._loop = loop

    def __iter__(self) -> Iterator[bytes]:
        return self._loop.iterate(self._response.body)

    def close(self) -> None:
        self._loop.run(_leave(self._exchange))


def begin(
    client: AsyncClient, request: httpx2.Request, netloc: str, body: bytes
) -> AbstractAsyncContextManager[Response]:
    """The exchange for `request`; httpx2.UnsupportedProtocol if it is not for the attested worker."""
    if request.url.netloc.decode("ascii") != netloc:
        raise httpx2.UnsupportedProtocol(f"this client speaks only to {netloc}, not to {request.url.host}")
    headers = tuple((n.lower(), v) for n, v in request.headers.raw if n.lower() not in DROPPED)
    return client.request(request.method, request.url.raw_path.decode("ascii"), body, headers)


def http_client(url: str, policy: Policy, **options: Any) -> httpx2.Client:
    """An http_client for `openai.OpenAI`. `url` is the worker's address; options as for AsyncClient."""
    return httpx2.Client(transport=SealedTransport(url, policy, **options), timeout=None)


def async_http_client(url: str, policy: Policy, **options: Any) -> httpx2.AsyncClient:
    """An http_client for `openai.AsyncOpenAI`."""
    return httpx2.AsyncClient(transport=AsyncSealedTransport(url, policy, **options), timeout=None)


async def _enter(exchange: AbstractAsyncContextManager[Response]) -> Response:
    return await exchange.__aenter__()


async def _leave(exchange: AbstractAsyncContextManager[Response]) -> None:
    await exchange.__aexit__(None, None, None)
