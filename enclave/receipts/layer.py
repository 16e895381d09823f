"""ASGI: signs a receipt for each answer whose request asks for one, and hands it over in the trailers.

    request   cloister-receipt: K                      the keyset that shall sign, base64url
    answer    trailers cloister-receipt, cloister-receipt-salts

The trailers lie in the sealed answer's final chunk, which is mandatory, so nobody can cut a receipt off; HTTP
clients that know nothing of receipts never see them.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from attestation import LoadedModel, Workload
from attestation.binding import sha256
from enclave.gateway.plain import Application, Message, Receive, Scope, Send
from enclave.tee.interface import EvidenceUnavailable
from sealing.bhttp import Fields
from sealing.errors import MalformedMessage
from sealing.receipts import (
    CONTENT_TYPE,
    Commitment,
    EventText,
    Named,
    Receipt,
    Salts,
    asked_for,
    to_trailers,
)

from .account import OPEN, Account
from .journal import EvidenceJournal

EVENT_STREAM = b"text/event-stream"


class Signer(Protocol):
    """The worker's receipt keys (enclave/identity.py)."""

    def keyset_of(self, digest: bytes) -> bytes | None:
        """The keyset with this K while its receipt key is held, else None."""

    def sign_receipt(self, payload: bytes, content_type: str, keyset: bytes) -> bytes:
        """A COSE_Sign1 by the receipt key of the keyset with this K. Raises LookupError if it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptLayer:
    """The application with receipts. `workload` gives what is loaded; `clock` Unix seconds."""

    application: Application
    signer: Signer
    journal: EvidenceJournal
    workload: Callable[[], bytes]
    clock: Callable[[], float]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass through whatever asks for no receipt."""
        try:
            digest = asked_for(tuple(scope["headers"])) if scope["type"] == "http" else None
        except MalformedMessage as error:
            await _refuse(send, 400, str(error))
            return
        if digest is None:
            await self.application(scope, receive, send)
            return
        await self._run(digest, scope, receive, send)

    async def _run(self, digest: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        workload = self.workload()
        keyset = self.signer.keyset_of(digest)
        if keyset is None:
            await _refuse(send, 409, "the keyset that shall sign is not in use; attest again")
            return
        try:
            await asyncio.to_thread(self.journal.ensure, int(self.clock()), keyset, workload)
        except EvidenceUnavailable as error:
            await _refuse(send, 503, f"no evidence for a receipt: {error}")
            return
        call = _ReceiptedCall(self, keyset, workload, scope["path"], send)
        token = OPEN.set(call.account)
        try:
            await self.application(scope, call.receiver(receive), call.send)
        finally:
            OPEN.reset(token)


class _ReceiptedCall:
    """One answer under way, with its commitments."""

    def __init__(self, layer: ReceiptLayer, keyset: bytes, workload: bytes, path: str, send: Send) -> None:
        self.account = Account(layer.workload)
        self._layer = layer
        self._keyset = keyset
        self._workload = workload
        self._path = path
        self._outer = send
        self._salts = Salts.fresh()
        self._request = Commitment(self._salts.request)
        self._response = Commitment(self._salts.response)
        self._events: EventText | None = None

    def receiver(self, receive: Receive) -> Receive:
        """`receive`, with the request's body committed to as it is read."""

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                self._request.feed(message.get("body", b""))
            return message

        return receiving

    async def send(self, message: Message) -> None:
        """ASGI's send: the body goes on as it is, the trailers behind it."""
        if message["type"] == "http.response.start":
            headers = dict(message.get("headers", ()))
            if headers.get(b"content-type", b"").split(b";")[0].strip() == EVENT_STREAM:
                self._events = EventText(self._response)
            await self._outer(dict(message) | {"trailers": True})
            return
        if message["type"] != "http.response.body":
            raise RuntimeError(f"{message['type']} behind the layer that sends the trailers")
        (self._events or self._response).feed(message.get("body", b""))
        await self._outer(message)
        if not message.get("more_body", False):
            if self._events is not None:
                self._events.close()
            trailers = await asyncio.to_thread(self._trailers)
            await self._outer({"type": "http.response.trailers", "headers": trailers, "more_trailers": False})

    def _trailers(self) -> Fields:
        """The receipt, if a model answered. On EvidenceUnavailable, LookupError it breaks off."""
        if not self.account.usages:
            return ()
        self._check_unchanged()
        now = int(self._layer.clock())
        self._layer.journal.ensure(now, self._keyset, self._workload)
        payload = self._receipt(now).to_bytes()
        raw = self._layer.signer.sign_receipt(payload, CONTENT_TYPE, sha256(self._keyset))
        return to_trailers(raw, self._salts)

    def _check_unchanged(self) -> None:
        """LookupError if something else was loaded under the name by the time that it answered.

        What has begun holds its adapter: it may have left the workload since, but not be another.
        """
        begun = [_named(raw, self.account.model) for raw in self.account.workloads]
        now = _named(self._layer.workload(), self.account.model)
        if {*begun, *([now] if now else [])} != {_named(self._workload, self.account.model)}:
            raise LookupError("what the request named was replaced before it answered")

    def _receipt(self, now: int) -> Receipt:
        workload = Workload.from_bytes(self._workload)
        adapter = next((a for a in workload.adapters if a.name == self.account.model), None)
        model = next((m for m in workload.models if m.name == self.account.model), workload.models[0])
        return Receipt(
            keyset=sha256(self._keyset),
            workload=sha256(self._workload),
            model=Named(name=model.name, root=model.root),
            adapter=Named(name=adapter.name, root=adapter.root) if adapter else None,
            policies=tuple(sorted(set(workload.policies))),
            consent=workload.consent,
            path=self._path,
            request=self._request.digest(),
            response=self._response.digest(),
            prompt_tokens=self.account.tokens("prompt_tokens"),
            completion_tokens=self.account.tokens("completion_tokens"),
            time=now,
        )


def _named(workload: bytes, name: str) -> LoadedModel | None:
    loaded = Workload.from_bytes(workload)
    return next((item for item in (*loaded.models, *loaded.adapters) if item.name == name), None)


async def _refuse(send: Send, status: int, message: str) -> None:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "receipt"}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
