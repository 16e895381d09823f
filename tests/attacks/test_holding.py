"""Connections that are held open to keep others out: rows B14 (the broker) and I9 (the worker)."""

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from types import ModuleType
from typing import Any, Protocol

import pytest
import uvicorn
from uvicorn.server import ServerState

from client.broker import deadlines
from enclave import listening
from enclave.gateway.plain import Receive, Scope, Send
from enclave.release import BrokerAddress, HttpTransport
from enclave.release.tls import connect
from tests.broker.certificates import Authority
from tests.broker.commands import cloister
from tests.broker.running import RunningBroker
from tests.gateway.world import build, reply

FEW = 4
SHORT = 1.5
GET = b"GET /healthz HTTP/1.1\r\nHost: here\r\n"
WITH_BODY = b" HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n"


class Wire(Protocol):
    """What an attacker has: a connection, TLS or none."""

    def sendall(self, data: Any) -> None: ...

    def close(self) -> None: ...


class Nothing:
    """Says nothing at all."""

    first = b""
    then = b""


class Head(Nothing):
    """A header that never ends."""

    first = GET + b"X: "
    then = b"x"


class Body(Nothing):
    """A body that never ends."""

    first = b"POST /kbs/v0/auth" + WITH_BODY
    then = b"x"


class Leftover(Nothing):
    """A body, a byte at a time, of a request that was answered before it was there."""

    first = GET + b"Content-Length: 1000\r\n\r\n"
    then = b"x"


HELD = [Nothing, Head, Body, Leftover]


def go_on(wire: Wire, how: type[Nothing]) -> None:
    """As little as keeps the connection from being idle."""
    with suppress(OSError):
        wire.sendall(how.then)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningBroker, Authority]]:
    """A broker with TLS that has few connections and short deadlines."""
    folder, authority = tmp_path_factory.mktemp("held"), Authority()
    assert cloister("broker", "init", "--data", str(folder / "broker")).returncode == 0
    certificate, key = authority.issue(folder / "tls")
    running = RunningBroker(
        folder / "broker",
        ("--tls-cert", str(certificate), "--tls-key", str(key)),
        module=("-m", "tests.broker.hurried", "broker", "serve"),
        environment={"CONNECTIONS": str(FEW), "DEADLINE": str(SHORT)},
    ).start()
    yield running, authority
    assert running.stop() == 0


def status(transport: HttpTransport) -> int:
    return transport.send("GET", "/healthz", {}, b"").status


@pytest.mark.parametrize("how", HELD)
def test_b14_connections_that_are_held_open_do_not_keep_a_release_out(
    broker: tuple[RunningBroker, Authority], how: type[Nothing]
) -> None:
    running, authority = broker
    port = int(running.url.rpartition(":")[2])
    transport = HttpTransport(BrokerAddress(url=running.url, ca=authority.pem))
    assert status(transport) == 200
    with ExitStack() as held:
        wires = []
        for _ in range(FEW - 1):  # whoever comes next is one too many
            wires.append(held.enter_context(closing(connect("127.0.0.1", port, authority.pem, 0.5))))
            wires[-1].sendall(how.first)
        assert status(transport) == 503  # the attack works
        deadline = time.monotonic() + 60
        while status(transport) != 200:
            assert time.monotonic() < deadline, "the broker is kept busy"
            for wire in wires:
                go_on(wire, how)
            time.sleep(0.1)


@asynccontextmanager
async def serving(config: uvicorn.Config) -> AsyncIterator[tuple[str, int]]:
    """Its protocol on a port of loopback, with few connections."""
    config.limit_concurrency = FEW
    config.load()
    state = ServerState()
    kind: Any = config.http_protocol_class
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: kind(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()  # type: ignore[union-attr]
        await asyncio.gather(*state.tasks, return_exceptions=True)


async def healthy(address: tuple[str, int]) -> bool:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(GET + b"Connection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return b" 200 " in answer.partition(b"\r\n")[0]


@pytest.mark.parametrize("how", HELD)
async def test_i9_connections_that_are_held_open_do_not_keep_other_clients_out(
    how: type[Nothing], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEAD", "BODY", "STALL"):
        monkeypatch.setattr(listening, name, SHORT)
    first = b"POST /ohttp" + WITH_BODY if how is Body else how.first
    async with serving(listening.configured(build().gateway)) as address:
        assert await healthy(address)
        held = [(await asyncio.open_connection(*address))[1] for _ in range(FEW - 1)]
        for writer in held:
            writer.write(first)
        assert not await healthy(address)  # the attack works
        async with asyncio.timeout(60):
            while not await healthy(address):
                for writer in held:
                    writer.write(how.then)
                await asyncio.sleep(0.1)
        for writer in held:
            writer.transport.abort()


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    await reply(send, 200, b"text/plain", [bytes(1 << 20)] * 64)


@pytest.mark.parametrize("side", [listening, deadlines], ids=["i9", "b14"])
async def test_a_peer_that_reads_nothing_is_cut_off(side: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = listening.configured(endless)  # type: ignore[arg-type]
    config.http = listening.Bounded if side is listening else deadlines.Deadlines
    monkeypatch.setattr(side, "STALL", SHORT)
    async with serving(config) as (host, port):
        with socket.create_connection((host, port)) as deaf:
            deaf.sendall(GET + b"\r\n")
            await asyncio.sleep(4 * SHORT)
            deaf.settimeout(0)  # what is there, and then the end: nothing is waited for
            got = 0
            with suppress(ConnectionResetError):
                while piece := deaf.recv(1 << 20):
                    got += len(piece)
            assert got < 32 << 20


@pytest.mark.parametrize("side", [listening, deadlines], ids=["i9", "b14"])
async def test_no_deadline_runs_while_an_answer_is_made_or_read_slowly(
    side: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(3 * SHORT)
        await endless(scope, receive, send)

    config = listening.configured(slow)  # type: ignore[arg-type]
    config.http = listening.Bounded if side is listening else deadlines.Deadlines
    for name in ("HEAD", "BODY", "STALL"):
        monkeypatch.setattr(side, name, SHORT)
    async with serving(config) as address:
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(2):  # on one connection
            writer.write(GET + b"\r\n")
            await reader.readuntil(b"\r\n\r\n")
            got = 0
            while got < 64 << 20:
                got += len(await reader.read(1 << 20))
        writer.close()
        await writer.wait_closed()


async def test_a_library_for_websockets_that_happens_to_be_installed_is_not_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object, **__: object) -> asyncio.Protocol:
        raise AssertionError("a connection was handed to it")

    library = ModuleType("uvicorn.protocols.websockets.auto")
    vars(library)["AutoWebSocketsProtocol"] = never
    monkeypatch.setitem(sys.modules, library.__name__, library)
    async with serving(listening.configured(build().gateway)) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.transport.abort()
