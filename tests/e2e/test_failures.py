"""Workers that are killed, clients that leave, tenants without tokens: clear errors, and serving goes on."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation import Policy
from client.blocking import Client
from client.errors import ApiFailure, BrokenAnswer, Unreachable
from client.sdk import AsyncClient
from tests.running import RunningWorker

LONG = {"temperature": 1.5, "max_tokens": 800, "seed": 1}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningWorker]:
    """A worker that a test may harm."""
    running = RunningWorker(tmp_path).start()
    yield running
    running.stop()


async def test_a_worker_killed_mid_stream_never_looks_finished(own: RunningWorker) -> None:
    async with AsyncClient(own.url, own.policy) as client:
        with pytest.raises(BrokenAnswer):
            async for _ in client.stream("What is attestation?", **LONG):
                own.kill()
        with pytest.raises(Unreachable):
            await client.ask("again")


def test_a_restarted_worker_is_attested_anew(tmp_path: Path) -> None:
    first = RunningWorker(tmp_path).start()
    port = first.url.rsplit(":", 1)[1]
    with Client(first.url, first.policy) as client:
        before = client.attest()
        first.kill()
        first.stop()
        second = RunningWorker(tmp_path, ("--port", port)).start()
        try:
            assert client.ask("hello", max_tokens=1).usage["completion_tokens"] == 1
            assert client.verdict is not before
        finally:
            second.stop()


async def test_clients_that_leave_free_the_engine(own: RunningWorker) -> None:
    async with AsyncClient(own.url, own.policy) as client:
        for _ in range(5):
            stream = client.stream("What is attestation?", **LONG)
            await anext(stream)
            await stream.aclose()
        start = time.monotonic()
        await client.ask("What is attestation?", max_tokens=5)
        assert time.monotonic() - start < 10


def test_ctrl_c_stops_cleanly(own: RunningWorker) -> None:
    assert own.interrupt() == 0
    assert "Traceback" not in own.output


def token(key: Ed25519PrivateKey, **changes: object) -> str:
    claims = {"sub": "hospital", "aud": "cloister", "exp": int(time.time()) + 60} | changes
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm="EdDSA")


async def _two_tenants(running: RunningWorker, key: Ed25519PrivateKey) -> list[int]:
    """Tokens of the answers of two tenants at once."""

    async def one(name: str) -> int:
        async with AsyncClient(running.url, running.policy, token=token(key, sub=name)) as client:
            return (await client.ask("What is HPKE?", max_tokens=2)).usage["completion_tokens"]

    return list(await asyncio.gather(one("hospital"), one("clinic")))


def test_tenants_need_a_token_of_an_issuer_that_the_evidence_names(tmp_path: Path) -> None:
    key, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "issuer.pem").write_bytes(pem)
    running = RunningWorker(tmp_path, ("--issuer", "issuer.pem")).start()
    try:
        bad = [
            None,
            "nonsense",
            token(stranger),
            token(key, exp=int(time.time()) - 60),
            token(key, aud="other"),
            token(key, sub=None),
            token(key, exp=None),
            jwt.encode(
                {"sub": "x", "aud": "cloister", "exp": int(time.time()) + 60}, "k" * 32, algorithm="HS256"
            ),
        ]
        for one in bad:
            with (
                Client(running.url, running.policy, token=one) as client,
                pytest.raises(ApiFailure) as caught,
            ):
                client.models()
            assert caught.value.status == 401
        with Client(running.url, running.policy, token=token(key)) as client:
            assert client.models() == ["faq", "sailor"]
        assert asyncio.run(_two_tenants(running, key)) == [2, 2]
        unnamed = running.policy_file.read_text().replace("issuer:sha256:", "issuer:sha256:00")
        with Client(running.url, Policy.from_toml(unnamed)) as client:
            verdict = client._loop.run(client._client.examine())[1]
        assert [str(r.check) for r in verdict.blocking()] == ["workload.policies"]
        assert "hospital" not in running.output
    finally:
        running.stop()


def test_questions_at_once_get_their_own_answers(worker: RunningWorker) -> None:
    questions = ["What is remote attestation?", "What is HPKE?", "What is TDX?", "What is a LoRA adapter?"]

    async def all_at_once() -> tuple[list[str], list[str]]:
        async with AsyncClient(worker.url, worker.policy) as client:

            async def one(question: str) -> str:
                return (await client.ask(question, temperature=0, max_tokens=40)).text

            alone = [await one(question) for question in questions]
            return alone, list(await asyncio.gather(*(one(q) for q in questions * 4)))

    alone, together = asyncio.run(all_at_once())
    assert together == alone * 4
    assert len(set(alone)) == len(questions)
