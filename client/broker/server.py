"""Runs the broker: uvicorn on loopback, or behind the TLS of tls.py. Stops gracefully."""

import asyncio
import logging
import resource
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from attestation import Collateral
from attestation.loopback import is_loopback

from .app import build
from .deadlines import Deadlines
from .errors import BrokerError
from .service import Service
from .store import Store
from .tls import TlsFront, server_context
from .tokens import Admins

STOP_GRACE: Final = 5
MAX_CONNECTIONS: Final = 512
FILES: Final = 4 * MAX_CONNECTIONS
"""Descriptors that so many connections may need: behind TLS each holds three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen. Without certificate and key the address must be loopback, and `plaintext` set."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    plaintext: bool = False

    def check(self) -> None:
        """BrokerError for plaintext that was not asked for, or beyond loopback."""
        if self.certificate and self.key:
            return
        if self.certificate or self.key:
            raise BrokerError("TLS takes a certificate and its key: --tls-cert FILE --tls-key FILE")
        if not self.plaintext:
            raise BrokerError("no TLS: give --tls-cert and --tls-key, or --plaintext on loopback")
        if not is_loopback(self.host):
            raise BrokerError(f"plaintext goes no further than loopback, and {self.host} is not")


def run(store: Store, admins: Admins, address: Address, collateral: Collateral) -> int:
    """Serve until SIGINT or SIGTERM; requests under way are finished. Returns the exit code, 0."""
    address.check()
    allow_files(FILES)
    logging.basicConfig(level=logging.INFO, format="broker: %(message)s")
    service = Service(store, admins, clock=time.time, ticks=time.monotonic, collateral=collateral)
    asyncio.run(_serve(build(service), address))
    return 0


def allow_files(number: int) -> None:
    """Raise this process's soft limit on open files to `number`, as far as the hard limit lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(app: FastAPI, address: Address) -> None:
    config = uvicorn.Config(
        app,
        http=Deadlines,
        ws="none",  # else whatever library for WebSockets is installed beside us would listen too
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=STOP_GRACE,
    )
    server = _Server(config)
    outside = _listener(address)
    host, port = outside.getsockname()[:2]
    if not (address.certificate and address.key):
        _announce(f"http://{host}:{port}")
        await server.serve(sockets=[outside])
        return
    with tempfile.TemporaryDirectory(prefix="cloister-broker-") as folder:  # mode 700
        inside = Path(folder) / "inside"
        behind = socket.socket(socket.AF_UNIX)
        behind.bind(str(inside))
        front = TlsFront(server_context(address.certificate, address.key), inside)
        async with front.serving(outside):
            _announce(f"https://{host}:{port}")
            await server.serve(sockets=[behind])


def _listener(address: Address) -> socket.socket:
    try:
        return socket.create_server((address.host, address.port))
    except OSError as error:
        reason = str(error.strerror).partition(" (while ")[0]
        raise BrokerError(f"{address.host}:{address.port}: {reason}; give another --port or --host") from None


class _Server(uvicorn.Server):
    """Ends by itself after SIGINT or SIGTERM, where uvicorn would send itself the signal once more."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def _announce(url: str) -> None:
    sys.stdout.write(f"listening on {url}\n")
    sys.stdout.flush()
