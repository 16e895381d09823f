"""The client: attest first, two round trips, re-attest and retry once, one-time keys."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from attestation import MalformedEvidence, Rejected
from client.channel import PREPARE_AFTER
from client.errors import BrokenAnswer, NoUsableKey, Unreachable, WorkerBusy, WorkerRefused
from client.sdk import AsyncClient
from client.wire import WireResponse
from sealing import hpke, kem
from sealing.hpke import MLKEM768_X25519_AES256 as SUITE
from tests.client.inprocess import MODEL, OTHER, InProcess, in_process


@pytest.fixture
async def worker() -> AsyncIterator[InProcess]:
    async with in_process() as made:
        yield made


def key_ids(worker: InProcess) -> list[int]:
    return [body[0] for path, body in worker.sent if path == "/ohttp"]


def kept_ids(worker: InProcess) -> set[int]:
    return {config.key_id for config in worker.identity.configs()}


async def test_first_answer_takes_two_round_trips_the_next_one(worker: InProcess) -> None:
    async with worker.client() as client:
        assert (await client.ask("one")).text == "one"
        assert worker.paths == ["/attestation", "/ohttp"]
        await client.ask("two")
        assert worker.paths == ["/attestation", "/ohttp", "/ohttp"]


async def test_every_request_in_a_row_is_sealed_to_a_key_of_its_own(worker: InProcess) -> None:
    async with worker.client() as client:
        for question in ("one", "two", "three"):
            await client.ask(question)
    ids = key_ids(worker)
    assert len(set(ids)) == 3
    assert not set(ids) & kept_ids(worker)


async def test_after_a_pause_the_attested_key_is_used(worker: InProcess) -> None:
    async with worker.client() as client:
        await client.ask("one")
        worker.clock.now += 61
        await client.ask("two")
    assert key_ids(worker)[1] in kept_ids(worker)


def demanding(worker: InProcess) -> AsyncClient:
    """A client whose policy seals to one-time keys alone."""
    policy = replace(worker.policy(), require_session=True)
    return AsyncClient("http://127.0.0.1:1", policy, wire=worker, clock=worker.clock)


async def test_a_demanded_one_time_key_is_fetched_again_after_a_pause(worker: InProcess) -> None:
    async with demanding(worker) as client:
        await client.ask("one")
        worker.clock.now += 61
        await client.ask("two")
    assert worker.paths == ["/attestation", "/ohttp"] * 2
    assert not set(key_ids(worker)) & kept_ids(worker)


async def test_demanded_one_time_keys_serve_one_request_each_in_parallel(worker: InProcess) -> None:
    async with demanding(worker) as client:
        answers = await asyncio.gather(*(client.ask(str(i)) for i in range(6)))
    assert [answer.text for answer in answers] == [str(i) for i in range(6)]
    ids = key_ids(worker)
    assert len(set(ids)) == 6 and not set(ids) & kept_ids(worker)


async def test_without_a_demanded_one_time_key_nothing_is_sealed(worker: InProcess) -> None:
    worker.identity.next_session = lambda: None  # type: ignore[method-assign]
    async with worker.client() as lenient:
        await lenient.ask("one")
    async with demanding(worker) as client:
        with pytest.raises(Rejected, match=r"session\.validity"):
            await client.ask("two")
    assert worker.answered == ["one"]


async def test_a_one_time_key_about_to_expire_is_not_used(worker: InProcess) -> None:
    async with demanding(worker) as client:
        attested = await client.attest()
        with pytest.raises(NoUsableKey, match="attest again"):
            attested.take_key(worker.clock.now + 60)


async def test_streams_arrive_piece_by_piece(worker: InProcess) -> None:
    async with worker.client() as client:
        assert [piece async for piece in client.stream("a b c")] == ["a", "b", "c"]


async def test_rotated_keys_are_attested_before_the_retry(worker: InProcess) -> None:
    async with worker.client() as client:
        await client.ask("one")
        worker.clock.now += 61  # the one-time key has expired
        for _ in range(2):  # past the time of grace of the former keyset
            worker.clock.now += 700
            worker.identity.rotate()
        assert (await client.ask("two")).text == "two"
    assert worker.paths[2:] == ["/ohttp", "/attestation", "/ohttp"]
    assert worker.answered == ["one", "two"]


async def test_a_request_in_flight_survives_a_rotation(worker: InProcess) -> None:
    async with worker.client() as client:
        await client.ask("one")
        worker.clock.now += 61
        worker.identity.rotate()
        await client.ask("two")
    assert worker.paths == ["/attestation", "/ohttp", "/ohttp"]


async def test_another_workload_is_attested_before_anything_runs(worker: InProcess) -> None:
    async with worker.client() as client:
        await client.ask("one")
        worker.load(OTHER)
        await client.ask("two", model="other")
        assert client.verdict is not None
        assert client.verdict.claims["bundle"]["models"][0]["name"] == "other"
    assert worker.paths[2:] == ["/ohttp", "/attestation", "/ohttp"]
    assert worker.answered == ["one", "two"]


async def test_a_workload_that_the_policy_does_not_allow_gets_no_request(worker: InProcess) -> None:
    async with worker.client() as client:
        await client.ask("one")
        worker.load(MODEL, type(MODEL)(name="evil", root=b"\x66" * 32, owner=""))
        with pytest.raises(Rejected, match=r"workload\.models"):
            await client.ask("two")
    assert worker.paths[2:] == ["/ohttp", "/attestation"]
    assert worker.answered == ["one"]


async def test_a_workload_that_keeps_changing_is_given_up_after_one_retry(worker: InProcess) -> None:
    models = [OTHER, MODEL, OTHER, MODEL]
    original = worker._gather

    def gather_and_change(nonce: bytes, session: bool):  # type: ignore[no-untyped-def]
        bundle = original(nonce, session)
        worker.load(models.pop())
        return bundle

    worker.gateway.desk._gather = gather_and_change
    worker.load(OTHER)
    async with worker.client() as client:
        with pytest.raises(WorkerRefused, match="workload changed"):
            await client.ask("one")
    assert worker.paths == ["/attestation", "/ohttp"] * 2
    assert worker.answered == []


async def test_an_aged_verdict_is_renewed(worker: InProcess) -> None:
    async with worker.client() as client:
        await client.ask("one")
        worker.clock.now += 3601
        await client.ask("two")
    assert worker.paths == ["/attestation", "/ohttp"] * 2


async def test_a_clock_that_is_off_is_named(worker: InProcess) -> None:
    async with worker.client() as client:
        await client.attest()
        slow = worker.clock.now - 200
        object.__setattr__(client._worker, "clock", lambda: slow)
        with pytest.raises(WorkerRefused, match="clock"):
            await client.ask("one")
    assert worker.answered == []


async def test_leaving_a_stream_early_closes_the_exchange(worker: InProcess) -> None:
    async with worker.client() as client:
        stream = client.stream("a b c")
        assert await anext(stream) == "a"
        await stream.aclose()
        assert (await client.ask("again")).text == "again"


class Answering:
    """A wire whose other end answers `status`, `media_type`, `body` to everything."""

    def __init__(self, status: int, media_type: str, body: bytes, **headers: str) -> None:
        self.answer = (status, {"content-type": media_type, **headers}, body)
        self.paths: list[str] = []

    def send(self, method: str, path: str, media_type: str, body: bytes) -> "Answering":
        self.paths.append(path)
        return self

    async def __aenter__(self) -> WireResponse:
        status, headers, body = self.answer

        async def pieces() -> AsyncIterator[bytes]:
            yield body

        return WireResponse(status, headers, pieces())

    async def __aexit__(self, *details: object) -> None:
        pass

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("wire", "error"),
    [
        (Answering(200, "application/json", b"not evidence"), MalformedEvidence),
        (Answering(200, "application/json", b"\xff" * 5_000_000), Unreachable),
        (Answering(503, "application/problem+json", b"{}", **{"retry-after": "7"}), WorkerBusy),
        (Answering(404, "text/html", b"<html>"), WorkerRefused),
    ],
)
async def test_strange_answers_to_attestation_are_named(
    worker: InProcess, wire: Answering, error: type[Exception]
) -> None:
    async with AsyncClient("http://127.0.0.1:1", worker.policy(), wire=wire) as client:
        with pytest.raises(error):
            await client.ask("secret")
    assert wire.paths == ["/attestation"]


async def test_an_answer_that_is_not_sealed_is_refused(worker: InProcess) -> None:
    """A router that answers 200 in plaintext gets nowhere."""
    plain = Answering(200, "message/ohttp-chunked-res", b"x" * 100)
    original = worker.send

    def send(method: str, path: str, media_type: str, body: bytes):  # type: ignore[no-untyped-def]
        return plain if path == "/ohttp" else original(method, path, media_type, body)

    worker.send = send  # type: ignore[method-assign]
    async with worker.client() as client:
        with pytest.raises(BrokenAnswer):
            await client.ask("secret")
        plain.answer = (200, {"content-type": "application/json"}, b"{}")
        with pytest.raises(WorkerRefused):
            await client.ask("secret")


@pytest.mark.parametrize(
    "answer",
    [b"{}", b"[]", b"7", b'{"choices": []}', b'{"choices": [{"message": null}]}', b'{"data": [{}]}', b"?"],
)
async def test_an_answer_of_another_form_than_openais_is_broken(worker: InProcess, answer: bytes) -> None:
    worker.instead = answer
    async with worker.client() as client:
        for ask in (
            lambda: client.ask("x"),
            client.models,
            lambda: client.embed("x", model="encoder"),
        ):
            with pytest.raises(BrokenAnswer):
                await ask()
        worker.instead = b"data: " + answer + b"\n\n"
        with pytest.raises(BrokenAnswer):
            [piece async for piece in client.stream("x")]


async def until_prepared() -> None:
    await asyncio.sleep(20 * PREPARE_AFTER)


async def test_the_next_key_is_encapsulated_to_before_a_request_needs_it(
    worker: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bytes] = []
    encapsulate = kem.encapsulate

    def counted(*given: Any) -> tuple[bytes, bytes]:
        secret, enc = encapsulate(*given)
        made.append(enc)
        return secret, enc

    monkeypatch.setattr(hpke, "encapsulate", counted)
    async with worker.client() as client:
        for index in range(3):
            await client.ask("one")
            await until_prepared()
            assert len(made) == index + 2
    sent = [body[7 : 7 + SUITE.n_enc] for path, body in worker.sent if path == "/ohttp"]
    assert sent == made[:3]  # one after another, none twice, the last still at hand


async def test_what_was_prepared_is_let_go_when_its_key_runs_out(worker: InProcess) -> None:
    async with worker.client() as client:
        await client.ask("one")
        attested = await client.attest()
        attested.prepare(worker.clock.now)
        assert len(attested._sessions) == 1
        attested.prepare(worker.clock.now + 60)
        assert attested._sessions == []


async def test_a_key_seals_another_message_each_time(worker: InProcess) -> None:
    async with worker.client() as client:
        attested = await client.attest()
        key = attested.take_key(worker.clock.now)
        key.begin()
        begun = [key.sealer() for _ in range(3)]
        assert len({sealer.enc for sealer in begun}) == 3


async def test_a_forked_process_encapsulates_anew(worker: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with one sealer would seal two messages under one key and nonce."""
    async with worker.client() as client:
        attested = await client.attest()
        key = attested.take_key(worker.clock.now)
        key.begin()
        twin = replace(key)
        here = key.sealer().enc
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert twin.sealer().enc != here
