"""ASGI: what a consent allows. Its output rules on every request, its expiry, what must stay loaded, and
passages of documents for those to whom they may be quoted."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from attestation import Workload
from enclave.documents.searching import PATH, BadSearch, search
from enclave.documents.shelf import Documents
from enclave.gateway.plain import Application, Message, Receive, Scope, Send
from sealing.consent import Manifest
from sealing.errors import ConsentRefused

from .admission import check_loaded
from .callers import caller
from .rules import RuleBroken, govern, knows


@dataclass(slots=True, kw_only=True)
class ConsentLayer:
    """The application under a consent. `workload` gives what is loaded; `clock` Unix seconds.

    Only what the rules know is passed on: a path that they do not know is refused.
    """

    application: Application
    manifest: Manifest
    workload: Callable[[], bytes]
    clock: Callable[[], float]
    documents: dict[str, Documents] = field(default_factory=dict)
    _checked: bytes = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; refusals are OpenAI's errors with code "consent" and status 403."""
        try:
            self._check_standing()
            if scope["method"] in ("GET", "HEAD") and scope["path"].startswith("/v1/models"):
                await self.application(scope, receive, send)
                return
            found = PATH.fullmatch(scope["path"])
            if not found and not knows(scope["path"]):
                raise RuleBroken(None, f"the consent in force does not allow {scope['path'][:128]}")
            table = _object((await receive()).get("body", b""))  # the gateway hands it over at once
            if found:
                page = self._searched(unquote(found[1]), scope, table)
                await _answer(send, 200, page)
                return
            body = json.dumps(govern(self.manifest.output, scope["path"], table)).encode()
        except BadSearch as error:
            await _answer(send, 400, _error(str(error), error.param, "invalid_request_error"))
            return
        except (ConsentRefused, RuleBroken) as error:
            await _answer(send, 403, _error(str(error), getattr(error, "param", None), "consent"))
            return
        # Written anew: what the application reads is what was judged.
        await self.application(_resized(scope, body), _once(body, receive), send)

    def _check_standing(self) -> None:
        """ConsentRefused once it has expired, or while something else is loaded than was agreed."""
        if self.clock() >= self.manifest.expires:
            raise ConsentRefused("the consent in force has expired")
        loaded = self.workload()
        if loaded != self._checked:
            check_loaded(self.manifest, Workload.from_bytes(loaded))
            self._checked = loaded

    def _searched(self, name: str, scope: Scope, table: dict[str, Any]) -> dict[str, Any]:
        """Passages, for a reader. Others learn the same whether or not there are such documents."""
        header = next((value for key, value in scope["headers"] if key == b"authorization"), b"")
        who = caller(self.manifest, header.decode("latin-1"))
        agreed = next((item for item in self.manifest.data if item.name == name), None)
        if who is None or agreed is None or who not in agreed.readers:
            raise ConsentRefused("the consent in force lets nobody read these documents with this token")
        found = self.documents.get(name)
        if found is None or (found.not_after is not None and self.clock() >= found.not_after):
            self.documents.pop(name, None)
            raise ConsentRefused("the key of these documents has expired; they are no longer here")
        return search(found, table)


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


def _error(message: str, param: str | None, code: str) -> dict[str, Any]:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return {"error": error}


async def _answer(send: Send, status: int, value: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})
