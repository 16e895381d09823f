"""POST /ohttp: opens sealed requests, lets each through once, and runs the application behind it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sealing import bhttp, ohttp
from sealing.envelope import (
    PROBLEM_DATE,
    PROBLEM_KEY,
    PROBLEM_REPLAY,
    PROBLEM_WORKLOAD,
    Envelope,
    session_field,
)
from sealing.errors import MalformedMessage, SealingError, UnknownKey

from .answers import ChunkedAnswer, SealedAnswer, WholeAnswer
from .inner import SealedCall
from .metrics import Metrics
from .plain import (
    Application,
    BodyTooLarge,
    ClientGone,
    Receive,
    Scope,
    Send,
    body_chunks,
    problem,
    problem_body,
    read_body,
)
from .replay import Admission, ReplayCache

PROBLEM_JSON = "application/problem+json"
MAX_PIECES = 4096


class Keys(Protocol):
    """The worker's oblivious-HTTP keys (enclave/identity.py)."""

    def lookup(self, key_id: int) -> ohttp.GatewayKey | None:
        """The private key of this id, unless there is none any more."""

    def opened(self, key_id: int) -> None:
        """A message was opened with this key; a one-time key is erased now."""

    def next_session(self) -> bytes | None:
        """A fresh one-time key as canonical JSON, or None while too many are pending."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A request out of its seal, with what seals its answer."""

    request: bhttp.Request
    envelope: Envelope
    enc: bytes
    answer: SealedAnswer


class Refused(Exception):
    """An opened request that the gateway answers itself: `status`, `kind` and `detail` go inside the seal."""

    def __init__(self, status: int, kind: str, title: str, detail: str) -> None:
        super().__init__(title)
        self.status = status
        self.body = problem_body(status, title, detail, kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObliviousHandler:
    """Answers /ohttp. `workload` gives the current W; `clock` Unix seconds; sizes in bytes.

    `pin` is called before a request is compared with it, in the context in which the application runs.
    """

    keys: Keys
    workload: Callable[[], bytes]
    application: Application
    metrics: Metrics
    replay: ReplayCache
    clock: Callable[[], float]
    pin: Callable[[], None] = lambda: None
    max_request: int = 2 * 1024 * 1024

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, from the outside in. Every failure to open looks the same from outside."""
        try:
            opened = await self._open(_media_type(scope), receive)
        except UnknownKey:
            self.metrics.request("unknown_key")
            detail = "the key of this request is not in use; attest again and use the attested keys"
            await problem(send, 422, "unknown key", detail, kind=PROBLEM_KEY)
        except BodyTooLarge:
            self.metrics.request("too_large")
            await problem(send, 413, "request too large", f"at most {self.max_request} bytes")
        except ClientGone:
            self.metrics.request("client_gone")
        except SealingError:
            self.metrics.request("not_opened")
            await problem(send, 400, "request could not be opened", "attest again and retry once")
        else:
            if opened is None:
                await problem(send, 415, "not an oblivious HTTP request", "see docs/spec/channel.md")
            else:
                await self._answer(opened, receive, send)

    async def _open(self, media_type: str, receive: Receive) -> Opened | None:
        if media_type == ohttp.MEDIA_TYPE_CHUNKED_REQUEST:
            return await self._open_chunked(receive)
        if media_type == ohttp.MEDIA_TYPE_REQUEST:
            return await self._open_whole(receive)
        return None

    async def _open_chunked(self, receive: Receive) -> Opened:
        opener = ohttp.ChunkedRequestOpener(self.keys.lookup)
        decoder = bhttp.RequestDecoder(bhttp.Limits(body=self.max_request, pieces=MAX_PIECES))
        events: list[bhttp.Event] = []
        erased = False
        async for piece in body_chunks(receive, self.max_request):
            for plaintext in opener.feed(piece):
                erased = erased or self._erase(opener.key_id)
                events += decoder.feed(plaintext)
        last = opener.close()
        if not erased:
            self._erase(opener.key_id)
        for plaintext in last:
            events += decoder.feed(plaintext)
        request = _assemble(events + decoder.close())
        enc = opener.enc or b""
        return Opened(
            request, Envelope.from_fields(request.headers), enc, ChunkedAnswer(opener.response_sealer())
        )

    async def _open_whole(self, receive: Receive) -> Opened:
        opened = ohttp.open_request(self.keys.lookup, await read_body(receive, self.max_request))
        self._erase(opened.key_id)
        request = bhttp.decode_request(
            opened.plaintext, limits=bhttp.Limits(body=self.max_request, pieces=MAX_PIECES)
        )
        envelope = Envelope.from_fields(request.headers)
        return Opened(request, envelope, opened.enc, WholeAnswer(opened.exchange))

    def _erase(self, key_id: int | None) -> bool:
        if key_id is not None:
            self.keys.opened(key_id)
        return True

    async def _answer(self, opened: Opened, receive: Receive, send: Send) -> None:
        self.pin()  # before the comparison, lest a device that is lost between them go unnoticed
        try:
            self._admit(opened)
        except Refused as refused:
            # No next key: replaying a request must not use up one-time keys. Counted like any answer.
            await SealedCall(opened.answer, send, ()).reply(refused.status, refused.body, PROBLEM_JSON)
            self.metrics.request("answered")
            return
        session = self.keys.next_session()
        call = SealedCall(opened.answer, send, (session_field(session),) if session else ())
        with self.metrics.in_flight():
            await call.run(self.application, opened.request, receive)
        self.metrics.request("answered" if call.finished else "broken_off")

    def _admit(self, opened: Opened) -> None:
        """Let a request through once, if it is of now and of the workload that is loaded; or Refused."""
        envelope, now = opened.envelope, self.clock()
        if envelope.workload != self.workload():
            detail = "what is loaded has changed since you attested; attest again"
            raise Refused(409, PROBLEM_WORKLOAD, "workload changed", detail)
        match self.replay.admit(opened.enc, envelope.request_id, envelope.created, now):
            case Admission.STALE:
                detail = f"made at {envelope.created}, the worker's clock says {int(now)}; set your clock"
                raise Refused(400, PROBLEM_DATE, "request is not of now", detail)
            case Admission.REPLAYED:
                raise Refused(409, PROBLEM_REPLAY, "request was already taken", "send it anew with a new id")
            case Admission.FULL:
                raise Refused(503, "about:blank", "worker is full", "retry in a few seconds")
            case Admission.ADMITTED:
                return


def _assemble(events: list[bhttp.Event]) -> bhttp.Request:
    head = next((event for event in events if isinstance(event, bhttp.RequestHead)), None)
    if head is None:
        raise MalformedMessage("no request inside")
    body = b"".join(event.data for event in events if isinstance(event, bhttp.Data))
    return bhttp.Request(head.method, head.scheme, head.authority, head.path, head.headers, body)


def _media_type(scope: Scope) -> str:
    value: bytes = next((v for name, v in scope["headers"] if name == b"content-type"), b"")
    return value.split(b";")[0].strip().decode("latin-1").lower()
