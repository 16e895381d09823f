"""Requests over the sealed channel: attest on first use, seal, open, re-attest and retry once."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

from attestation import MalformedEvidence, Verdict
from attestation.binding import sha256
from sealing import bhttp, ohttp
from sealing.envelope import PROBLEM_WORKLOAD, session_of, strip
from sealing.errors import RemoteProtocolError
from sealing.receipts import asking

from .attested import Attested, Key, Sealed, Unattested, new_request_id, parse_problem, refusal
from .errors import BrokenAnswer, Unreachable, WorkerRefused
from .wire import WireResponse

PROBLEM_JSON = b"application/problem+json"
PREPARE_AFTER = 0.005
"""Seconds from the head of an answer, which brings the next key; its first text goes first."""
RETRIED = frozenset({400, 422})
"""Outer answers after which nothing was opened: the keys changed, or somebody interfered."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer out of its seal. `body` ends only after the final chunk; BrokenAnswer otherwise.

    `attested` is the worker that gave it.
    """

    status: int
    headers: bhttp.Fields
    body: AsyncIterator[bytes]
    attested: Attested = field(repr=False)
    _ends: list[bhttp.End] = field(default_factory=list, repr=False)

    @property
    def trailers(self) -> bhttp.Fields:
        """What came behind the body; nothing before its end was reached."""
        return self._ends[0].trailers if self._ends else ()

    def header(self, name: bytes) -> bytes:
        """The first value of `name` (lower case), or nothing."""
        return next((value for key, value in self.headers if key == name), b"")

    async def read(self, limit: int = 64 * 1024 * 1024) -> bytes:
        """The whole body; BrokenAnswer if it is longer than `limit` bytes."""
        pieces = bytearray()
        async for piece in self.body:
            pieces += piece
            if len(pieces) > limit:
                raise BrokenAnswer(f"the answer exceeds {limit} bytes")
        return bytes(pieces)


class _Stale(Exception):
    """The attested keys or workload are no longer current; nothing was delivered."""

    def __init__(self, refused: WorkerRefused) -> None:
        super().__init__()
        self.refused = refused


class Channel:
    """A sealed channel to one worker. Attests on first use and again when the verdict has aged.

    Nothing of a request leaves before its worker's evidence was accepted.
    """

    def __init__(self, worker: Unattested) -> None:
        self._worker = worker
        self._attested: Attested | None = None
        self._lock = asyncio.Lock()

    @property
    def verdict(self) -> Verdict | None:
        """The latest accepted verdict, if there was one."""
        return self._attested.verdict if self._attested else None

    async def attest(self) -> Attested:
        """The attested worker: the one at hand while its verdict holds, else a fresh one."""
        async with self._lock:
            return await self._current()

    async def _current(self) -> Attested:
        if self._attested is None or not self._attested.holds(self._worker.clock()):
            self._attested = await self._worker.attest()
        return self._attested

    async def _claim(self) -> tuple[Attested, Key]:
        """The attested worker, and a key of it for one request alone."""
        async with self._lock:
            attested = await self._current()
            return attested, attested.take_key(self._worker.clock())

    @asynccontextmanager
    async def send(self, request: bhttp.Request, *, receipt: bool = False) -> AsyncIterator[Response]:
        """Send one request, and ask for a `receipt`. Leaving the block early tells the worker to stop.

        Raises what attesting raises, Unreachable, WorkerBusy, WorkerRefused, BrokenAnswer.
        """
        request_id = new_request_id()
        attested, key = await self._claim()
        try:
            async with self._exchange(attested, key, request, request_id, receipt) as response:
                yield response
                return
        except _Stale:
            await self._discard(attested)
        attested, key = await self._claim()
        try:
            async with self._exchange(attested, key, request, request_id, receipt) as response:
                yield response
        except _Stale as stale:
            raise stale.refused from None

    async def close(self) -> None:
        """Close the connections."""
        await self._worker.wire.close()

    def _prepare_later(self, attested: Attested) -> None:
        """Encapsulate to the next one-time key while the worker thinks, not when a request waits for it."""
        asyncio.get_running_loop().call_later(PREPARE_AFTER, lambda: attested.prepare(self._worker.clock()))

    async def _discard(self, attested: Attested) -> None:
        async with self._lock:
            if self._attested is attested:
                self._attested = None

    @asynccontextmanager
    async def _exchange(
        self,
        attested: Attested,
        key: Key,
        request: bhttp.Request,
        request_id: bytes,
        receipt: bool,
    ) -> AsyncIterator[Response]:
        if receipt:
            request = replace(request, headers=(*request.headers, asking(sha256(attested.bundle.keyset))))
        sealed = attested.seal(request, request_id, self._worker.clock(), key)
        media_type = ohttp.MEDIA_TYPE_CHUNKED_REQUEST
        async with self._worker.wire.send("POST", "/ohttp", media_type, sealed.body) as outer:
            await _check_outer(outer)
            async with aclosing(_events(outer, sealed)) as events:
                head = await _head(events)
                ends: list[bhttp.End] = []
                response = Response(head.status, strip(head.headers), _body(events, ends), attested, ends)
                await _check_inner(response)
                _keep_session(attested, head.headers)
                self._prepare_later(attested)
                yield response


async def _check_outer(outer: WireResponse) -> None:
    media_type = outer.headers.get("content-type", "").partition(";")[0].strip()
    if outer.status == 200 and media_type == ohttp.MEDIA_TYPE_CHUNKED_RESPONSE:
        return
    error = await refusal(outer)
    if outer.status in RETRIED and isinstance(error, WorkerRefused):
        raise _Stale(error)
    raise error


async def _check_inner(response: Response) -> None:
    """Raise for the gateway's own sealed refusals; the application's answers pass."""
    if response.header(b"content-type") != PROBLEM_JSON:
        return
    refused = WorkerRefused(response.status, parse_problem(await response.read()))
    if response.status == 409 and refused.problem.get("type") == PROBLEM_WORKLOAD:
        raise _Stale(refused)
    raise refused


def _keep_session(attested: Attested, headers: bhttp.Fields) -> None:
    try:
        session = session_of(headers)
        if session is not None:
            attested.keep_session(session)
    except (RemoteProtocolError, MalformedEvidence) as error:
        raise BrokenAnswer(f"the answer's one-time key: {error}") from None


async def _events(outer: WireResponse, sealed: Sealed) -> AsyncGenerator[bhttp.Event]:
    """The events of the sealed response; End comes only after an authentic final chunk."""
    decoder = bhttp.ResponseDecoder()
    opener = sealed.request.response_opener()
    try:
        async for piece in outer.body:
            for plaintext in opener.feed(piece):
                for event in decoder.feed(plaintext):
                    yield event
        for plaintext in opener.close():
            for event in decoder.feed(plaintext):
                yield event
        for event in decoder.close():
            yield event
    except (RemoteProtocolError, Unreachable) as error:
        raise BrokenAnswer(f"the sealed answer is not whole: {error}") from None


async def _head(events: AsyncIterator[bhttp.Event]) -> bhttp.ResponseHead:
    async for event in events:
        if isinstance(event, bhttp.ResponseHead):
            return event
    raise BrokenAnswer("the answer has no status")


async def _body(events: AsyncIterator[bhttp.Event], ends: list[bhttp.End]) -> AsyncIterator[bytes]:
    async for event in events:
        if isinstance(event, bhttp.Data):
            yield event.data
        elif isinstance(event, bhttp.End):
            ends.append(event)
