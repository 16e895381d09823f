"""Runs an ordinary ASGI application for one opened request and seals what it answers."""

import asyncio
import json
import logging
from contextlib import suppress

from sealing import bhttp
from sealing.envelope import strip

from .answers import SealedAnswer
from .plain import Application, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

NOT_INSIDE = bhttp.CONNECTION_FIELDS | {b"content-length", b"date", b"server"}
ERROR = {
    "error": {"message": "the worker failed to answer", "type": "server_error", "param": None, "code": None}
}


def scope_of(request: bhttp.Request) -> Scope:
    """The ASGI scope of a request that came out of the seal; the channel's own fields stay out."""
    path, _, query = request.path.partition("?")
    headers = [(name, value) for name, value in strip(request.headers) if name != b"host"]
    headers.append((b"host", request.authority.encode("ascii") or b"worker"))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme or "https",
        "path": path,
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": headers,
        "client": None,
        "server": None,
    }


class SealedCall:
    """One run of an application behind the seal.

    The answer ends with its final chunk only if the application finished it: whatever breaks it
    off leaves the client with a truncated message, never with one that looks complete.
    """

    def __init__(self, answer: SealedAnswer, send: Send, extra: bhttp.Fields) -> None:
        self._answer = answer
        self._outer = send
        self._extra = extra
        self._started = False
        self._trailers_follow = False
        self.finished = False

    async def run(self, application: Application, request: bhttp.Request, receive: Receive) -> None:
        """Run to the end, or until the client leaves; then the application is cancelled."""
        call = asyncio.create_task(application(scope_of(request), self._receiver(request.body), self._send))
        watch = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({call, watch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
            call.cancel()
            with suppress(asyncio.CancelledError):
                await watch
            await self._settle(call)

    async def reply(self, status: int, body: bytes, media_type: str) -> None:
        """One whole answer of the gateway's own, sealed."""
        headers = ((b"content-type", media_type.encode("ascii")),)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def _settle(self, call: "asyncio.Task[None]") -> None:
        """Wait for the application; if it crashed before answering, answer 500 in its place."""
        try:
            await call
        except asyncio.CancelledError:
            return
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a Rust library's panic is one; whatever it is could quote a prompt
            log.error("application failed: %s", type(error).__name__)
            if not self._started:
                await self.reply(500, json.dumps(ERROR).encode(), "application/json")

    def _receiver(self, body: bytes) -> Receive:
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()  # departure is seen by `run`, which cancels the application
            raise AssertionError("unreachable")

        return receive

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            self._trailers_follow = message.get("trailers", False)
            await self._start(message["status"], tuple(message.get("headers", ())))
        elif message["type"] == "http.response.body" and not self.finished:
            last = not message.get("more_body", False) and not self._trailers_follow
            await self._pass_on(message.get("body", b""), () if last else None)
        elif message["type"] == "http.response.trailers" and not self.finished:
            await self._pass_on(b"", tuple(message.get("headers", ())))

    async def _pass_on(self, body: bytes, trailers: bhttp.Fields | None) -> None:
        """A piece of the body; and the end of the answer, if `trailers` are given."""
        out = self._answer.data(body)
        if trailers is not None:
            out += self._answer.end(trailers)
            self.finished = True
        if out or self.finished:
            await self._outer({"type": "http.response.body", "body": out, "more_body": not self.finished})

    async def _start(self, status: int, headers: bhttp.Fields) -> None:
        inside = tuple((name.lower(), value) for name, value in headers if name.lower() not in NOT_INSIDE)
        head = self._answer.head(status, (*inside, *self._extra))
        fields = [(b"content-type", self._answer.media_type.encode("ascii")), (b"cache-control", b"no-store")]
        await self._outer({"type": "http.response.start", "status": 200, "headers": fields})
        if head:
            await self._outer({"type": "http.response.body", "body": head, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
