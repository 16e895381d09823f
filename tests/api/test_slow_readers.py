"""A client that hardly reads: bounded memory, its answer whole in the end, everyone else undisturbed."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

from enclave.api.app import build
from enclave.api.service import Service
from enclave.api.tenants import Tenants
from enclave.engine.runner import EngineRunner
from enclave.text import TextModel
from tests.api.scripted import Scripted
from tests.running import FAQ

Message = MutableMapping[str, Any]
LONG = "attestation proves what runs. " * 40


class Caller:
    """One request of the app; `gate` is closed while the client does not read."""

    def __init__(self, application: Any, **fields: Any) -> None:
        self.gate = asyncio.Event()
        self.sent: list[bytes] = []
        self._body = {"model": "faq", "messages": [{"role": "user", "content": "Hi"}]} | fields
        self._received = False
        self._gone = asyncio.Event()
        self.task = asyncio.create_task(application(self._scope(), self._receive, self._send))

    def leave(self) -> None:
        self._gone.set()

    def _scope(self) -> Message:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "https",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", b"application/json")],
            "client": None,
            "server": None,
        }

    async def _receive(self) -> Message:
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": json.dumps(self._body).encode(), "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self.sent.append(message.get("body", b""))
            await self.gate.wait()


async def test_a_stalled_reader_holds_one_event_and_others_are_served() -> None:
    text = TextModel(FAQ)
    engine = Scripted(text, says=lambda request: LONG)
    runner = EngineRunner(engine)
    application = build(Service("faq", text, runner), Tenants())
    try:
        slow = [Caller(application, stream=True, n=count) for count in (1, 4)]
        while not all(caller.sent for caller in slow) or engine.has_work():
            await asyncio.sleep(0.01)
        # The engine is done with all of it; the clients have been handed one event each.
        for _ in range(10):
            other = Caller(application)
            other.gate.set()
            await asyncio.wait_for(other.task, 20)
        assert [len(caller.sent) for caller in slow] == [1, 1]
        for caller in slow:
            caller.gate.set()
        await asyncio.wait_for(asyncio.gather(*(caller.task for caller in slow)), 20)
        for caller, count in zip(slow, (1, 4), strict=True):
            assert caller.sent[-2] == b"data: [DONE]\n\n"
            told = b"".join(caller.sent).decode().count('"finish_reason":"stop"')
            assert told == count
    finally:
        await asyncio.to_thread(runner.close)


async def test_a_reader_that_leaves_is_cancelled_in_the_engine() -> None:
    text = TextModel(FAQ)
    engine = Scripted(text, says=lambda request: LONG * 200, context_length=200_000, pace=0.005)
    runner = EngineRunner(engine)
    application = build(Service("faq", text, runner), Tenants())
    try:
        caller = Caller(application, stream=True, n=3)
        while len(engine.seen) < 3 or not caller.sent:
            await asyncio.sleep(0.01)
        caller.task.cancel()
        await asyncio.gather(caller.task, return_exceptions=True)
        while len(engine.cancelled) < 3:
            await asyncio.sleep(0.01)
        assert set(engine.cancelled) == {request.id for request in engine.seen}
    finally:
        await asyncio.to_thread(runner.close)
