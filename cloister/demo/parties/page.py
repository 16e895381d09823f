"""The page: served on loopback, to whoever has the token in the URL, and to no other site's scripts."""

import asyncio
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

from aiohttp import web

from .director import Director
from .texts import WARDS
from .trials import Trial

TOKEN_SIZE = 24
QUIET = 0.15
KEEP_ALIVE = 15.0
MAX_BODY = 4096
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
FILES = {"": "text/html", "style.css": "text/css", "page.js": "text/javascript"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page:
    """Shows a director's state and gives it orders. `url` holds the token."""

    def __init__(self, director: Director) -> None:
        self._director = director
        self._token = secrets.token_urlsafe(TOKEN_SIZE)
        self._changed = asyncio.Event()
        self._version = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None
        self._origin = ""

    @property
    def url(self) -> str:
        """Where the page is; whoever knows it may use it."""
        return f"{self._origin}/{self._token}/"

    def changed(self) -> None:
        """Tell those who look."""
        self._version += 1
        self._changed.set()

    async def start(self, port: int = 0) -> None:
        """Listen on loopback."""
        app = web.Application(middlewares=[self._guarded], client_max_size=MAX_BODY)
        app.router.add_get("/{token}/events", self._events)
        app.router.add_post("/{token}/attack", self._attack)
        app.router.add_post("/{token}/ask", self._ask)
        app.router.add_get("/{token}/{file:[a-z.]*}", self._file)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self._origin = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Close the page; what was ordered and still runs is cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse other names for this host (DNS rebinding), other origins, and those without the token."""
        given = request.match_info.get("token", "")
        origin = request.headers.get("origin")
        allowed = (
            request.headers.get("host") == self._origin.removeprefix("http://")
            and hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())
            and (origin == self._origin if request.method == "POST" else origin in (None, self._origin))
            and request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
        )
        if not allowed:
            return web.Response(status=403, text="not from here", headers=HEADERS)
        return await handler(request)

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["file"]
        if name not in FILES:
            return web.Response(status=404, headers=HEADERS)
        content = resources.files(__package__).joinpath("page", name or "index.html").read_bytes()
        return web.Response(body=content, content_type=FILES[name], charset="utf-8", headers=HEADERS)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the whole state, whenever it has changed."""
        answer = web.StreamResponse(headers=HEADERS | {"content-type": "text/event-stream"})
        await answer.prepare(request)
        version = -1
        while True:
            if version != self._version:
                version = self._version
                value = self._director.state.to_json() | {"questions": _questions()}
                await answer.write(b"event: state\ndata: " + json.dumps(value).encode() + b"\n\n")
                await asyncio.sleep(QUIET)
                continue
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), KEEP_ALIVE)
            except TimeoutError:
                await answer.write(b": still here\n\n")

    async def _attack(self, request: web.Request) -> web.Response:
        table = await _body(request)
        trial = table.get("trial") if table else None
        if not isinstance(trial, str) or trial not in list(Trial):
            return _refused(f'no such attack: {{"trial": ...}} is one of {", ".join(Trial)}')
        return self._order(self._director.attack(Trial(trial)))

    async def _ask(self, request: web.Request) -> web.Response:
        table = await _body(request) or {}
        hospital, number = table.get("hospital"), table.get("number")
        named = isinstance(hospital, str) and type(number) is int  # in Python, true and 1.0 are 1
        if not named or (hospital, number) not in [(q["hospital"], q["number"]) for q in _questions()]:
            known = ", ".join(f"{name} 0 to {len(ward.questions) - 1}" for name, ward in WARDS.items())
            return _refused(f'no such question: {{"hospital": ..., "number": ...}} is one of {known}')
        return self._order(self._director.ask(str(hospital), int(str(number))))

    def _order(self, work: Any) -> web.Response:
        if self._director.state.step != "ready" or self._director.state.busy:
            work.close()
            return web.Response(status=409, text="something is under way", headers=HEADERS)
        task = asyncio.create_task(self._done(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return web.Response(status=202, headers=HEADERS)

    async def _done(self, work: Any) -> None:
        try:
            await work
        except Exception as error:  # whatever a party answers is shown, and the page goes on
            self._director.state.failed = f"{type(error).__name__}: {error}"
            self.changed()


async def _body(request: web.Request) -> dict[str, Any] | None:
    if request.content_type != "application/json":
        return None
    try:
        value = json.loads(await request.read())
    except (ValueError, RecursionError, web.RequestPayloadError):
        return None
    return value if isinstance(value, dict) else None


def _refused(text: str) -> web.Response:
    return web.Response(status=400, text=text, headers=HEADERS)


def _questions() -> list[dict[str, Any]]:
    return [
        {"hospital": name, "number": number, "ask": question.ask}
        for name, ward in WARDS.items()
        for number, question in enumerate(ward.questions)
    ]
