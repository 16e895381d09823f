"""ASGI: what a consent allows. Its output rules on every request, its expiry, and what must stay loaded."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attestation import Workload
from enclave.gateway.plain import Application, Message, Receive, Scope, Send
from sealing.consent import Manifest
from sealing.errors import ConsentRefused

from .admission import check_loaded
from .rules import RuleBroken, govern


@dataclass(slots=True, kw_only=True)
class ConsentLayer:
    """The application under a consent. `workload` gives what is loaded; `clock` Unix seconds.

    Only what the rules know is passed on: a path that they do not know is refused.
    """

    application: Application
    manifest: Manifest
    workload: Callable[[], bytes]
    clock: Callable[[], float]
    _checked: bytes = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; refusals are OpenAI's errors with code "consent" and status 403."""
        try:
            self._check_standing()
            if scope["method"] in ("GET", "HEAD") and scope["path"].startswith("/v1/models"):
                await self.application(scope, receive, send)
                return
            body = await self._governed(scope, receive)
        except (ConsentRefused, RuleBroken) as error:
            await _refuse(send, str(error), getattr(error, "param", None))
            return
        await self.application(_resized(scope, body), _once(body, receive), send)

    def _check_standing(self) -> None:
        """ConsentRefused once it has expired, or while something else is loaded than was agreed."""
        if self.clock() >= self.manifest.expires:
            raise ConsentRefused("the consent in force has expired")
        loaded = self.workload()
        if loaded != self._checked:
            check_loaded(self.manifest, Workload.from_bytes(loaded))
            self._checked = loaded

    async def _governed(self, scope: Scope, receive: Receive) -> bytes:
        """The request's body under the rules, written anew: what is read is what was judged."""
        message = await receive()  # the gateway hands over the whole body at once
        table = _object(message.get("body", b""))
        ruled = govern(self.manifest.output, scope["path"], table)
        return json.dumps(ruled).encode()


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise RuleBroken(None, "the body is not valid JSON") from None
    if not isinstance(value, dict):
        raise RuleBroken(None, "the body is not a JSON object")
    return value


def _resized(scope: Scope, body: bytes) -> Scope:
    headers = [(n, v) for n, v in scope["headers"] if n != b"content-length"]
    return dict(scope) | {"headers": [*headers, (b"content-length", str(len(body)).encode())]}


def _once(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return pending.pop() if pending else await receive()

    return receiving


async def _refuse(send: Send, message: str, param: str | None) -> None:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": "consent"}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
