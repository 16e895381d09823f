"""A client that reads one byte a second: its answer is whole in the end, nobody else is held up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from client.sdk import AsyncClient
from tests.running import RunningWorker

QUESTION = "What is remote attestation?"


class Throttle:
    """A proxy before the worker that passes one byte a second back while `slow`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.slow = asyncio.Event()
        self.passed = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", self._port, limit=1024)
        forward = asyncio.create_task(self._copy(reader, outer))
        try:
            # A read that began before `slow` was set may still bring so many: far fewer than an answer.
            while piece := await inner.read(1 if self.slow.is_set() else 256):
                writer.write(piece)
                await writer.drain()
                if self.slow.is_set():
                    self.passed += 1
                    await asyncio.wait({asyncio.create_task(self._quick())}, timeout=1)
        except ConnectionError:
            pass  # the client left
        finally:
            forward.cancel()
            outer.close()
            writer.close()

    async def _quick(self) -> None:
        while self.slow.is_set():
            await asyncio.sleep(0.02)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()


@asynccontextmanager
async def throttled(worker: RunningWorker) -> AsyncIterator[tuple[str, Throttle]]:
    throttle = Throttle(urlsplit(worker.url).port or 0)
    server = await asyncio.start_server(throttle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", throttle


async def test_a_client_that_reads_one_byte_a_second_holds_nobody_up(worker: RunningWorker) -> None:
    async with (
        throttled(worker) as (url, throttle),
        AsyncClient(url, worker.policy) as slow,
        AsyncClient(worker.url, worker.policy) as quick,
    ):
        expected = (await quick.ask(QUESTION, temperature=0)).text
        await slow.attest()
        throttle.slow.set()
        reading = asyncio.create_task(collect(slow))
        while throttle.passed < 2:
            await asyncio.sleep(0.05)
        for _ in range(5):
            assert (await quick.ask(QUESTION, temperature=0)).text == expected
        assert not reading.done()
        throttle.slow.clear()
        assert await asyncio.wait_for(reading, 60) == expected


async def collect(client: AsyncClient) -> str:
    return "".join([piece async for piece in client.stream(QUESTION, temperature=0)])
