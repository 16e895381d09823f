"""The worker's socket: uvicorn, with bounds on what comes before a body, and the line that says where."""

import socket
import sys

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .gateway.app import Gateway

STOP_GRACE = 3
MAX_HEAD = 512 * 1024
MAX_CONNECTIONS = 1024


class BoundedHead(HttpToolsProtocol):
    """uvicorn's protocol, which closes a connection whose request line and headers exceed 512 KiB."""

    _head = 0
    _inside = False

    def data_received(self, data: bytes) -> None:
        """Count what comes before a body."""
        if not self._inside:
            self._head += len(data)
            if self._head > MAX_HEAD:
                self.transport.close()
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """A body follows, which the gateway bounds."""
        self._inside, self._head = True, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next request may begin."""
        self._inside, self._head = False, 0
        super().on_message_complete()


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            sys.stdout.write(f"listening on http://{host}:{port}\n")
            sys.stdout.flush()


async def listen(application: Gateway, listener: socket.socket) -> None:
    """Serve on `listener` until told to stop."""
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=BoundedHead,
        limit_concurrency=MAX_CONNECTIONS,
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=STOP_GRACE,
    )
    await _Server(config).serve(sockets=[listener])
