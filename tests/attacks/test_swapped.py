"""THREAT_MODEL row C10: what a request was opened for is what answers it, or nothing does."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from attestation import Workload
from attestation.binding import sha256
from client.errors import ApiFailure
from client.sdk import AsyncClient
from enclave.api.app import build
from enclave.api.service import Service
from enclave.api.tenants import Tenants
from enclave.artifacts.holdings import Holdings
from enclave.artifacts.shelf import Found
from enclave.engine.interface import Request
from enclave.engine.runner import EngineRunner
from enclave.gateway.plain import Application, Receive, Scope, Send
from tests.api.scripted import Scripted
from tests.api.scripted import _text as text_of
from tests.client.inprocess import InProcess, in_process
from tests.running import FAQ

BARE = Workload(
    software="cloister test", models=(), adapters=(), engine={}, policies=(), consent="", clock="host"
)
GOOD, EVIL = b"\1" * 32, b"\2" * 32


def swap(holdings: Holdings, root: bytes = EVIL) -> None:
    """Its owner unloads the adapter and loads another of that name."""
    holdings.remove("sailor")
    holdings.add(Found("sailor", FAQ, root), None, adapter=True)


@dataclass
class World:
    worker: InProcess
    client: AsyncClient
    holdings: Holdings
    engine: Scripted
    runner: EngineRunner
    meddle: Callable[[], None] = lambda: None

    async def ask(self, **options: Any) -> str:
        return (await self.client.ask("Hi", model="sailor", **options)).text


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A worker whose owner may meddle once a request was opened, before the application begins."""
    holdings, text = Holdings(BARE), text_of(FAQ)
    holdings.add(Found("faq", FAQ, bytes(32)), None)
    holdings.add(Found("encoder", FAQ, b"\3" * 32), None)
    holdings.add(Found("sailor", FAQ, GOOD), None, adapter=True)
    engine = Scripted(text, says=lambda _: "good" if holdings.roots.get("sailor") == GOOD else "evil")
    runner = EngineRunner(engine)
    service = Service("faq", text, runner, holdings=holdings, encoders={"encoder": text})
    app: Application = build(service, Tenants())
    made: World

    async def meddled(scope: Scope, receive: Receive, send: Send) -> None:
        made.meddle()
        await app(scope, receive, send)

    async with in_process() as worker:
        worker.workload = Workload.from_bytes(holdings.workload)
        policy = worker.policy()
        assert policy.workload is not None
        rules = replace(policy.workload, allow_any_adapter=True, allow_any_model=True)
        vars(worker)["policy"] = lambda: replace(policy, workload=rules)
        gateway = worker.gateway
        worker.gateway = replace(
            gateway,
            oblivious=replace(
                gateway.oblivious,
                application=meddled,
                workload=lambda: sha256(holdings.workload),
                pin=holdings.pin,
            ),
        )
        try:
            async with worker.client() as client:
                made = World(worker, client, holdings, engine, runner)
                yield made
        finally:
            await asyncio.to_thread(runner.close)


async def test_c10_nobody_meddles_and_the_adapter_answers() -> None:
    async with world() as made:
        assert await made.ask() == "good"


async def test_c10_an_adapter_swapped_once_the_request_was_opened_does_not_answer() -> None:
    async with world() as made:
        made.meddle = lambda: swap(made.holdings)
        with pytest.raises(ApiFailure, match="has changed since the request was opened"):
            await made.ask()
        assert made.engine.seen == []
        made.meddle = lambda: None  # asked again: what is attested now is what answers
        made.worker.workload = Workload.from_bytes(made.holdings.workload)
        assert await made.ask() == "evil"


async def test_c10_an_adapter_swapped_on_the_way_to_the_engine_does_not_answer() -> None:
    """The engine's thread is busy when the request arrives; it comes to it after the swap."""
    async with world() as made:
        free, busy = threading.Event(), threading.Event()
        blocked = made.runner._post(lambda: (busy.set(), free.wait(10))[1] and None)
        busy.wait(10)
        asked = asyncio.ensure_future(made.ask())
        while not made.runner._commands:
            await asyncio.sleep(0.01)
        swap(made.holdings)
        free.set()
        with pytest.raises(ApiFailure, match="has changed since"):
            await asked
        blocked.result(10)
        assert made.engine.seen == []


async def test_c10_the_same_adapter_loaded_anew_answers() -> None:
    async with world() as made:
        made.meddle = lambda: swap(made.holdings, GOOD)
        assert await made.ask() == "good"


async def test_c10_what_its_owner_took_away_answers_nobody() -> None:
    async with world() as made:
        made.meddle = lambda: made.holdings.remove("sailor")
        with pytest.raises(ApiFailure, match="not loaded"):
            await made.ask()
        made.meddle = lambda: made.holdings.remove("encoder")
        made.worker.workload = Workload.from_bytes(made.holdings.workload)
        with pytest.raises(ApiFailure, match="not loaded"):
            await made.client.embed("text", model="encoder")
        assert made.engine.seen == []


async def test_c10_without_meddling_texts_are_embedded() -> None:
    async with world() as made:
        assert len(await made.client.embed("text", model="encoder")) == 1
        made.meddle = lambda: made.holdings.add(Found("encoder", FAQ, EVIL), None)
        with pytest.raises(ApiFailure, match="has changed since"):
            await made.client.embed("text", model="encoder")


@pytest.mark.parametrize("session", ["second", ""])
async def test_c10_another_session_with_a_device_does_not_answer_what_was_opened_for_the_last(
    session: str,
) -> None:
    async with world() as made:
        made.holdings.bind("first")
        made.worker.workload = Workload.from_bytes(made.holdings.workload)
        assert await made.ask() == "good"
        made.engine.seen.clear()
        made.meddle = lambda: made.holdings.bind(session)
        with pytest.raises(ApiFailure, match="has changed since"):
            await made.ask()
        assert made.engine.seen == []


async def test_c10_nor_one_that_began_while_the_engine_was_being_given_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world() as made:
        made.holdings.bind("first")
        made.worker.workload = Workload.from_bytes(made.holdings.workload)
        submit = made.engine.submit

        def after_a_loss(request: Request) -> None:
            made.holdings.bind("second")
            submit(request)

        monkeypatch.setattr(made.engine, "submit", after_a_loss)
        with pytest.raises(ApiFailure, match="has changed since"):
            await made.ask()
        assert len(made.engine.seen) == 1 and not made.engine.has_work()


async def test_c10_a_device_lost_between_note_and_comparison_is_noted_as_it_was() -> None:
    """Its session ends on another thread: what is noted must never be newer than what is compared."""
    async with world() as made:
        made.holdings.bind("first")
        oblivious = made.worker.gateway.oblivious

        def compared() -> bytes:
            made.holdings.bind("second")
            return sha256(made.holdings.workload)

        made.worker.gateway = replace(made.worker.gateway, oblivious=replace(oblivious, workload=compared))
        made.worker.workload = Workload.from_bytes(made.holdings.workload)
        made.worker.workload = replace(
            made.worker.workload, engine=made.worker.workload.engine | {"gpu_session": "second"}
        )
        with pytest.raises(ApiFailure, match="has changed since"):
            await made.ask()
        assert made.engine.seen == []
