"""The operator's router: everything between parties and worker passes here, is kept, and can be altered."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, web

MAX_BODY = 16 * 1024 * 1024
KEPT = 400
Alter = Callable[[bytes], bytes]
"""An answer's body to what the operator sends in its place."""


@dataclass(slots=True)
class Passed:
    """One request that went by, and what came back, as the operator saw them."""

    method: str
    path: str
    sent: bytes = field(repr=False)
    status: int = 0
    received: bytearray = field(default_factory=bytearray, repr=False)
    at: float = field(default_factory=time.time)

    @property
    def bytes_seen(self) -> bytes:
        """Everything of it."""
        return self.path.encode() + self.sent + bytes(self.received)


@dataclass(slots=True)
class Router:
    """Forwards to `target`, a worker's URL, and keeps what passes. `alter` changes evidence on its way."""

    target: str = ""
    url: str = ""
    passed: list[Passed] = field(default_factory=list)
    alter: Alter | None = None
    seen: Callable[[Passed], None] = lambda passed: None
    _session: ClientSession | None = None
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._session = ClientSession(
            timeout=ClientTimeout(total=None, sock_read=300),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Close everything."""
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def send(self, method: str, path: str, body: bytes, media_type: str) -> tuple[int, bytes]:
        """A request of the operator's own to the worker."""
        async with self._open().request(
            method, self.target + path, data=body, headers={"content-type": media_type}
        ) as response:
            return response.status, await response.read()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        passed = Passed(request.method, request.path_qs, await request.read())
        self.passed.append(passed)
        del self.passed[:-KEPT]
        headers = {"content-type": request.headers.get("content-type", ""), "accept-encoding": "identity"}
        async with self._open().request(
            request.method, self.target + request.path_qs, data=passed.sent, headers=headers
        ) as response:
            passed.status = response.status
            kept = {name: response.headers[name] for name in _PASSED_ON if name in response.headers}
            if self.alter is not None and request.path == "/attestation":
                passed.received += await response.read()
                altered = self.alter(bytes(passed.received))
                return web.Response(status=response.status, headers=kept, body=altered)
            answer = web.StreamResponse(status=response.status, headers=kept)
            await answer.prepare(request)
            async for piece in response.content.iter_any():
                passed.received += piece
                await answer.write(piece)
            self.seen(passed)
            await answer.write_eof()
            return answer

    def _open(self) -> ClientSession:
        if self._session is None:
            raise RuntimeError("the router is not running")
        return self._session


_PASSED_ON = ("content-type", "retry-after", "cache-control")


def worth_showing(passed: Passed, edge: int = 48) -> dict[str, Any]:
    """A request for the page: its line, sizes, and the first bytes either way in hexadecimal."""
    return {
        "line": f"{passed.method} {passed.path[:80]}",
        "status": passed.status,
        "sent": len(passed.sent),
        "received": len(passed.received),
        "sent_hex": passed.sent[:edge].hex(),
        "received_hex": bytes(passed.received[:edge]).hex(),
    }
