"""TLS 1.3 in front of the broker, X25519MLKEM768 preferred: the release itself is sealed to a classical key.

pyOpenSSL brings the OpenSSL that has the hybrid; the `ssl` module's is often older. The front ends TLS and
hands the bytes to the broker over a Unix socket in a directory that only its user can enter. That connection
begins when the handshake is done, and the deadlines of deadlines.py count from then.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from OpenSSL import SSL

from .deadlines import STALL
from .errors import BrokerError

HANDSHAKE: Final = 10.0
_PIECE: Final = 1 << 16
T = TypeVar("T")


def server_context(certificate: Path, key: Path) -> SSL.Context:
    """A context for TLS 1.3 and nothing older. Raises BrokerError."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    try:
        context.use_certificate_chain_file(str(certificate))
        context.use_privatekey_file(str(key))
        context.check_privatekey()
    except SSL.Error as error:
        raise BrokerError(
            f"{certificate}, {key}: not a certificate chain and its key in PEM ({error})"
        ) from None
    return context


class Tls:
    """One TLS connection over a pair of streams, by way of memory: OpenSSL never sees the socket."""

    def __init__(
        self, context: SSL.Context, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._tls = SSL.Connection(context, None)
        self._tls.set_accept_state()
        self._reader, self._writer = reader, writer

    @property
    def group(self) -> str | None:
        """The key agreement that was used."""
        return self._tls.get_group_name()

    async def handshake(self) -> None:
        """Agree on keys. Raises SSL.Error, OSError, TimeoutError."""
        async with asyncio.timeout(HANDSHAKE):
            await self._carried(self._tls.do_handshake)

    async def read(self) -> bytes:
        """What the peer sent next; nothing at its end. A connection cut off is an SSL.Error."""
        try:
            return await self._carried(lambda: self._tls.recv(_PIECE))
        except SSL.ZeroReturnError:
            return b""

    async def write(self, data: bytes) -> None:
        """Send `data`."""
        self._tls.sendall(data)
        await self._flush()

    async def end(self) -> None:
        """Say that nothing more comes."""
        with suppress(SSL.Error, OSError):
            self._tls.shutdown()
            await self._flush()

    async def _carried(self, step: Callable[[], T]) -> T:
        while True:
            try:
                result = step()
            except SSL.WantReadError:
                await self._flush()
                data = await self._reader.read(_PIECE)
                if not data:
                    raise SSL.SysCallError(-1, "the connection was cut off") from None
                self._tls.bio_write(data)
                continue
            await self._flush()
            return result

    async def _flush(self) -> None:
        with suppress(SSL.WantReadError):
            while True:
                self._writer.write(self._tls.bio_read(_PIECE))
        async with asyncio.timeout(STALL):  # a peer that reads nothing
            await self._writer.drain()


class TlsFront:
    """Ends TLS on `outside` and passes the bytes on to the Unix socket `inside`."""

    def __init__(self, context: SSL.Context, inside: Path) -> None:
        self._context = context
        self._inside = inside

    @asynccontextmanager
    async def serving(self, outside: socket.socket) -> AsyncIterator[None]:
        """Accept connections until the end of the context."""
        server = await asyncio.start_server(self._connected, sock=outside)
        try:
            yield
        finally:
            server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = Tls(self._context, reader, writer)
        try:
            with suppress(SSL.Error):
                await tls.handshake()
                await self._pass_on(tls)
            await tls.end()
            writer.close()
            async with asyncio.timeout(STALL):
                await writer.wait_closed()
        except OSError:  # a peer that is gone, or too slow (TimeoutError), ends its own connection
            pass
        finally:
            writer.transport.abort()

    async def _pass_on(self, tls: Tls) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(self._inside)
        inward = asyncio.create_task(_inward(tls, inner_writer))
        try:
            while data := await inner_reader.read(_PIECE):
                await tls.write(data)
        finally:
            inward.cancel()
            inner_writer.close()


async def _inward(tls: Tls, inner: asyncio.StreamWriter) -> None:
    with suppress(SSL.Error, OSError):
        while data := await tls.read():
            inner.write(data)
            await inner.drain()
    inner.close()
