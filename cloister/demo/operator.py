"""The operator of the demo: what goes by on the network, and on the bus between worker and device."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from enclave.gpu.link.watch import Recorder, Watcher, below

GLANCE = 0.002
Direction = Literal["to worker", "to client"]


@dataclass(frozen=True, slots=True)
class Seen:
    """Bytes that went by, when (seconds since the relay began), and which way."""

    at: float
    direction: Direction
    data: bytes = field(repr=False)


@dataclass(slots=True)
class Relay:
    """Forwards connections to `target` (a worker's URL) and remembers every read."""

    target: str
    seen: list[Seen] = field(default_factory=list)
    _start: float = field(default_factory=time.monotonic)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """The relay's own URL, for as long as the block lasts."""
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = urlsplit(self.target)
        up, down = await asyncio.open_connection(address.hostname, address.port)
        await asyncio.gather(self._pump(reader, down, "to worker"), self._pump(up, writer, "to client"))

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: Direction
    ) -> None:
        with suppress(OSError):  # the other side hung up
            while data := await source.read(1 << 20):
                self.seen.append(Seen(time.monotonic() - self._start, direction, data))
                sink.write(data)
                await sink.drain()
        sink.close()


@contextmanager
def bus_watched() -> Iterator[tuple[Watcher, Recorder] | None]:
    """Watches the bus of a worker that this process started, while the block lasts; None if there is none."""
    found = below(os.getpid())
    if not found:
        yield None
        return
    watcher = Watcher.of(found[0].path)
    with Recorder(watcher, pause=GLANCE) as recorder:
        yield watcher, recorder
