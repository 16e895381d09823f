"""OpenAI's client over the sealed channel: `OpenAI(base_url=..., api_key=..., http_client=http_client(...))`.

The transports plug into httpx2, which the openai package is built on. What it would send over
TLS goes inside the seal, the bearer token too. A worker that is rejected raises
attestation.Rejected with the verdict; errors of this package come through as they are.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from attestation import Policy
from sealing import bhttp

from .blocking import Ending, Loop
from .channel import Response
from .receipts import RECEIPTED, Proof, ReceiptedBody
from .sdk import AsyncClient

DROPPED = bhttp.CONNECTION_FIELDS | {b"host", b"content-length", b"accept-encoding"}


Told = Callable[[Proof], None]
"""Called with each receipt, once its answer has come whole."""


class AsyncSealedTransport(httpx2.AsyncBaseTransport):
    """An httpx2 transport that seals every request to one attested worker.

    With `on_receipt`, every answer of a model comes with a receipt, or raises ReceiptRefused.
    """

    def __init__(self, url: str, policy: Policy, *, on_receipt: Told | None = None, **options: Any) -> None:
        self._client = AsyncClient(url, policy, **options)
        self._netloc = urlsplit(url).netloc
        self._told = on_receipt

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Seal, send, open. A request for another host is refused."""
        body = await request.aread()
        exchange, tell = begin(self._client, request, self._netloc, body, self._told)
        response = await exchange.__aenter__()
        pieces = ReceiptedBody(response, body, tell) if tell else response.body
        return httpx2.Response(
            response.status, headers=list(response.headers), stream=_AsyncBody(pieces, exchange)
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class SealedTransport(httpx2.BaseTransport):
    """`AsyncSealedTransport` for blocking callers."""

    def __init__(self, url: str, policy: Policy, *, on_receipt: Told | None = None, **options: Any) -> None:
        self._client = AsyncClient(url, policy, **options)
        self._netloc = urlsplit(url).netloc
        self._told = on_receipt
        self._loop = Loop()
        self._ending = Ending(self, self._client, self._loop)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Seal, send, open. A request for another host is refused."""
        body = request.read()
        exchange, tell = begin(self._client, request, self._netloc, body, self._told)
        response = self._loop.run(_enter(exchange))
        pieces = ReceiptedBody(response, body, tell) if tell else response.body
        stream = _Body(pieces, exchange, self._loop, self)
        self._ending.begun(stream)
        return httpx2.Response(response.status, headers=list(response.headers), stream=stream)

    def close(self) -> None:
        """Close the connections and stop the thread. Otherwise that is done when nobody has the client."""
        self._ending.now()


class _AsyncBody(httpx2.AsyncByteStream):
    def __init__(self, pieces: AsyncIterator[bytes], exchange: AbstractAsyncContextManager[Response]) -> None:
        self._pieces = pieces
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._pieces:
            yield piece

    async def aclose(self) -> None:
        await _leave(self._pieces, self._exchange)


class _Body(httpx2.SyncByteStream):
    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        exchange: AbstractAsyncContextManager[Response],
        loop: Loop,
        transport: SealedTransport,
    ) -> None:
        self._transport = transport  # which is closed when nobody has it
        self._left = False
        self._pieces = pieces
        self._exchange = exchange
        self._loop = loop

    def __iter__(self) -> Iterator[bytes]:
        return self._loop.iterate(self._pieces)

    def close(self) -> None:
        if not self._left:  # else the loop may be gone too
            self._loop.run(self.aclose())

    async def aclose(self) -> None:
        """Leave early, once."""
        if not self._left:
            self._left = True
            await _leave(self._pieces, self._exchange)


def begin(
    client: AsyncClient, request: httpx2.Request, netloc: str, body: bytes, told: Told | None
) -> tuple[AbstractAsyncContextManager[Response], Told | None]:
    """The exchange for `request`, and who is told its receipt; None where no model answers.

    httpx2.UnsupportedProtocol if it is not for the attested worker.
    """
    if request.url.netloc.decode("ascii") != netloc:
        raise httpx2.UnsupportedProtocol(f"this client speaks only to {netloc}, not to {request.url.host}")
    headers = tuple((n.lower(), v) for n, v in request.headers.raw if n.lower() not in DROPPED)
    path = request.url.raw_path.decode("ascii")
    tell = told if request.method == "POST" and path.partition("?")[0] in RECEIPTED else None
    return client.request(request.method, path, body, headers, receipt=tell is not None), tell


def http_client(url: str, policy: Policy, **options: Any) -> httpx2.Client:
    """An http_client for `openai.OpenAI`. `url` is the worker's address; options as for AsyncClient.

    `on_receipt` is called with a `client.receipts.Proof` for each answer.
    """
    return httpx2.Client(transport=SealedTransport(url, policy, **options), timeout=None)


def async_http_client(url: str, policy: Policy, **options: Any) -> httpx2.AsyncClient:
    """An http_client for `openai.AsyncOpenAI`; options as for `http_client`."""
    return httpx2.AsyncClient(transport=AsyncSealedTransport(url, policy, **options), timeout=None)


async def _enter(exchange: AbstractAsyncContextManager[Response]) -> Response:
    return await exchange.__aenter__()


async def _leave(pieces: AsyncIterator[bytes], exchange: AbstractAsyncContextManager[Response]) -> None:
    try:
        if isinstance(pieces, ReceiptedBody):
            await pieces.aclose()
    finally:
        await exchange.__aexit__(None, None, None)
