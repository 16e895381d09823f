"""The engine's thread: streams, consumers that leave, errors that reach everyone, a clean end."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from enclave.engine.interface import (
    EmbeddingEvent,
    EmbeddingRequest,
    EngineError,
    EngineStats,
    Event,
    GenerationRequest,
    InvalidRequest,
    ModelRefused,
    Overloaded,
    TokenEvent,
)
from enclave.engine.runner import EngineRunner
from enclave.files import DirectoryFiles, ModelFiles
from tests.engine.models import expected, load, request

PROMPTS = [(5, 9, 33, 60 + row) for row in range(6)]


class Counting:
    """An engine that counts upwards for each request, and can be told to die."""

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        self.texts: list[str] = []
        self.prepared: list[int] = []
        self.contents: list[dict[str, bytes]] = []
        self.cancelled: list[str] = []
        self.threads: set[int] = set()
        self.context_length = 100
        self.adapters = frozenset[str]()
        self.encoders = frozenset[str]()
        self.grammars = True
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False

    def prepare(self, request: GenerationRequest) -> None:
        self.prepared.append(threading.get_ident())
        if request.grammar == "bad":
            raise InvalidRequest("no such grammar")

    def submit(self, request: GenerationRequest | EmbeddingRequest) -> None:
        self.threads.add(threading.get_ident())
        if isinstance(request, EmbeddingRequest):
            self.texts.append(request.id)
            return
        if len(self.requests) == 4:
            raise Overloaded("full")
        self.requests[request.id] = request.max_tokens

    def cancel(self, request_id: str) -> None:
        self.threads.add(threading.get_ident())
        self.requests.pop(request_id, None)
        self.cancelled.append(request_id)

    def step(self) -> list[Event]:
        self.threads.add(threading.get_ident())
        self.gate.wait(10)
        if self.broken:
            raise MemoryError("secret")
        events: list[Event] = [EmbeddingEvent(id=name, vector=(1.0,)) for name in self.texts]
        self.texts = []
        for name in list(self.requests):
            self.requests[name] -= 1
            last = self.requests[name] == 0
            events.append(TokenEvent(id=name, token=1, finish="length" if last else None))
            if last:
                del self.requests[name]
        return events

    def has_work(self) -> bool:
        return bool(self.requests or self.texts)

    def stats(self) -> EngineStats:
        return EngineStats(running=len(self.requests))

    def load_adapter(self, name: str, files: ModelFiles) -> None:
        self.adapters |= {name}
        self.contents.append({file: files.read(file) for file in files.sizes})

    def load_encoder(self, name: str, files: ModelFiles) -> None:
        self.encoders |= {name}

    def unload_adapter(self, name: str) -> None:
        raise EngineError("in use")


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
async def runner(counting: Counting) -> AsyncIterator[EngineRunner]:
    runner = EngineRunner(counting)
    yield runner
    counting.gate.set()
    await asyncio.to_thread(runner.close)


async def _tokens(runner: EngineRunner, wanted: GenerationRequest) -> list[int]:
    return [event.token async for event in runner.generate(wanted) if event.token is not None]


async def test_many_consumers_share_one_engine_on_one_thread(
    counting: Counting, runner: EngineRunner
) -> None:
    counts = await asyncio.gather(*(_tokens(runner, request(str(n), (3,), n)) for n in range(1, 5)))
    assert [len(tokens) for tokens in counts] == [1, 2, 3, 4]
    assert len(counting.threads) == 1
    assert threading.get_ident() not in counting.threads


async def test_refusals_reach_the_one_who_asked(counting: Counting, runner: EngineRunner) -> None:
    counting.gate.clear()
    streams = [await runner.submit(request(str(row), (3,))) for row in range(1)]
    asking = [asyncio.create_task(runner.submit(request(str(row), (3,)))) for row in range(1, 5)]
    await asyncio.sleep(0.05)
    counting.gate.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(item) is Overloaded for item in found] == [False, False, False, True]
    assert [event.finish for event in [event async for event in streams[0]]][-1] == "length"


async def test_a_consumer_that_leaves_cancels_its_request(counting: Counting, runner: EngineRunner) -> None:
    stream = runner.generate(request("gone", (3,), 10**9))
    assert (await anext(stream)).token == 1
    await stream.aclose()
    task = asyncio.create_task(_tokens(runner, request("killed", (3,), 10**9)))
    while "killed" not in counting.requests:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await _tokens(runner, request("other", (3,), 3))) == 3
    assert counting.cancelled == ["gone", "killed"]


async def test_closing_a_finished_stream_cancels_nothing(counting: Counting, runner: EngineRunner) -> None:
    await _tokens(runner, request("done", (3,), 2))
    await _tokens(runner, request("again", (3,), 2))
    assert counting.cancelled == []


async def test_an_engine_that_dies_reaches_every_consumer(counting: Counting, runner: EngineRunner) -> None:
    streams = [await runner.submit(request(str(row), (3,), 10**9)) for row in range(3)]
    await anext(streams[0])
    counting.broken = True
    for stream in streams:
        with pytest.raises(EngineError, match=r"MemoryError") as caught:
            await asyncio.wait_for(_exhaust(stream), 10)
        assert "secret" not in str(caught.value)
        stream.close()
    with pytest.raises(EngineError):
        await runner.submit(request("late", (3,)))
    assert isinstance(runner.failure, EngineError)


async def _exhaust(stream: AsyncIterator[TokenEvent]) -> None:
    async for _ in stream:
        pass


async def test_closing_ends_what_still_runs(counting: Counting, runner: EngineRunner) -> None:
    stream = await runner.submit(request("x", (3,), 10**9))
    assert runner.failure is None
    await asyncio.to_thread(runner.close)
    with pytest.raises(EngineError, match="closed"):
        await asyncio.wait_for(_exhaust(stream), 10)
    runner.close()


async def test_adapters_are_loaded_between_steps(counting: Counting, runner: EngineRunner) -> None:
    await runner.load_adapter("pirate", DirectoryFiles(Path(__file__).parent))
    assert await _tokens(runner, request("x", (3,), 1)) == [1]
    assert runner.adapters == {"pirate"}
    with pytest.raises(EngineError, match="in use"):
        await runner.unload_adapter("pirate")


async def test_an_embedding_is_one_event(counting: Counting, runner: EngineRunner) -> None:
    wanted = EmbeddingRequest(id="x", prompt=(3,), encoder="any")
    event, tokens = await asyncio.gather(runner.embed(wanted), _tokens(runner, request("y", (3,), 3)))
    assert (event.id, event.vector, tokens) == ("x", (1.0,), [1, 1, 1])
    assert counting.cancelled == []
    await runner.load_encoder("mini", DirectoryFiles(Path(__file__).parent))
    await _tokens(runner, request("z", (3,), 1))
    assert runner.encoders == {"mini"}


class Slow(DirectoryFiles):
    """Files behind a network that has stopped for now."""

    gate: threading.Event

    def fill(self, name: str, offset: int, into: memoryview) -> None:
        self.gate.wait(10)
        super().fill(name, offset, into)


async def test_an_adapter_that_comes_slowly_holds_nobody_up(
    counting: Counting, runner: EngineRunner, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    files = Slow(tmp_path)
    files.gate = threading.Event()
    loading = asyncio.create_task(runner.load_adapter("late", files))
    assert len(await _tokens(runner, request("x", (3,), 5))) == 5
    assert not loading.done()
    files.gate.set()
    await loading
    assert counting.adapters == {"late"}
    assert counting.contents == [{"adapter_config.json": b"{}"}]


async def test_an_adapter_whose_files_go_away_is_refused(runner: EngineRunner, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    files = DirectoryFiles(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(ModelRefused, match="adapter_config"):
        await runner.load_adapter("gone", files)
    assert await _tokens(runner, request("x", (3,), 1)) == [1]


async def test_a_grammar_is_prepared_on_another_thread(counting: Counting, runner: EngineRunner) -> None:
    assert runner.grammars
    assert await _tokens(runner, request("x", (3,), 1, grammar="good")) == [1]
    assert not set(counting.prepared) & {*counting.threads, threading.get_ident()}
    with pytest.raises(InvalidRequest, match="no such"):
        await runner.submit(request("y", (3,), 1, grammar="bad"))


def test_a_consumer_whose_event_loop_ended_is_cancelled(counting: Counting) -> None:
    runner = EngineRunner(counting)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(runner.submit(request("left", (3,), 10**9)))
    loop.close()
    assert asyncio.run(_tokens(runner, request("other", (3,), 3))) == [1, 1, 1]
    runner.close()
    assert counting.cancelled == ["left"]


async def test_real_tokens_arrive_in_order(llama: Path) -> None:
    runner = EngineRunner(load(llama))
    try:
        found = await asyncio.gather(*(_tokens(runner, request(str(p), p, 20)) for p in PROMPTS))
        assert found == [expected(llama, prompt, 20) for prompt in PROMPTS]
        assert runner.stats().blocks_used == 0
    finally:
        await asyncio.to_thread(runner.close)
