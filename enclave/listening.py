"""The worker's socket: uvicorn with bounds on heads and on waiting, and the line that says where it is."""

import asyncio
import socket
import sys

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .gateway.app import Gateway
from .gateway.plain import BODY_DEADLINE

STOP_GRACE = 3
MAX_HEAD = 512 * 1024
MAX_CONNECTIONS = 1024
HEAD = 20.0
"""Seconds from one answer, or from the connection's start, until the next request's headers are here."""
BODY = BODY_DEADLINE + 5.0
"""Seconds that a body may take; the gateway's own deadline is to come first."""
STALL = 300.0
"""Seconds in which the client has to take something of an answer."""


class Bounded(HttpToolsProtocol):
    """uvicorn's protocol, which closes a connection that keeps the worker waiting, or has too long a head.

    Request line and headers have at most 512 KiB and come within HEAD, a body within BODY, and of an answer
    something is taken every STALL. While an answer is being made nothing runs out.
    """

    _head = 0
    _inside = False
    _awaited: object = None
    _timer: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request has HEAD seconds."""
        super().connection_made(transport)
        self._await()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        super().connection_lost(exc)
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Count what comes before a body."""
        if not self._inside:
            self._head += len(data)
            if self._head > MAX_HEAD:
                self.transport.close()
                return
        super().data_received(data)
        self._await()

    def on_headers_complete(self) -> None:
        """A body follows, which the gateway bounds."""
        self._inside, self._head = True, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next request may begin."""
        self._inside, self._head = False, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The next request has HEAD seconds, the rest of this one's body included."""
        super().on_response_complete()
        self._await()

    def pause_writing(self) -> None:
        """The client reads nothing."""
        super().pause_writing()
        self._stall = self.loop.call_later(STALL, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    def _await(self) -> None:
        """Begin the deadline of what is awaited now, unless it has begun."""
        cycle = self.cycle
        between = cycle is None or cycle.response_complete
        seconds = HEAD if between else BODY if cycle.more_body else None
        if self._awaited == (awaited := (cycle, seconds)):
            return
        self._awaited = awaited
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._end) if seconds is not None else None

    def _end(self) -> None:
        """Close; a client that does not take the rest of an answer is cut off after STALL."""
        self.transport.close()
        self._timer = self.loop.call_later(STALL, self.transport.abort)


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            sys.stdout.write(f"listening on http://{host}:{port}\n")
            sys.stdout.flush()


def configured(application: Gateway) -> uvicorn.Config:
    """How the worker's gateway is served."""
    return uvicorn.Config(
        application,
        loop="uvloop",
        http=Bounded,
        ws="none",  # else whatever library for WebSockets is installed beside us would listen too
        limit_concurrency=MAX_CONNECTIONS,
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=STOP_GRACE,
    )


async def listen(application: Gateway, listener: socket.socket) -> None:
    """Serve on `listener` until told to stop."""
    await _Server(configured(application)).serve(sockets=[listener])
