"""THREAT_MODEL rows C1 to C3: the operator on receipts of a running worker."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from attestation import Bundle, LoadedModel
from client import hourly
from client.errors import BrokenAnswer
from client.receipts import Proof
from client.sdk import AsyncClient
from enclave.gateway.plain import Message, Receive, Scope, Send
from sealing import cose
from sealing.receipts import commitment
from tests.attacks.operator import Answer, Rewriter, windows_found
from tests.attacks.test_wire import chunks
from tests.client.inprocess import InProcess, in_process
from tests.running import RunningWorker, cloister

PROMPT = "What is HPKE? My case number is 4711-QUARTZ-0815."
OPTIONS = {"temperature": 0, "max_tokens": 20}


async def receipt(worker: RunningWorker) -> Proof:
    async with AsyncClient(worker.url, worker.policy) as client:
        proof = (await client.ask(PROMPT, receipt=True, **OPTIONS)).receipt
    assert proof is not None
    return proof


async def _other_purpose(worker: RunningWorker) -> bytes:
    async with AsyncClient(worker.url, worker.policy) as client:
        return (await client.examine())[0].to_json()


def _forged_tokens(raw: bytes) -> bytes:
    """One token count changed, the signature kept."""
    message = cose.Sign1.from_bytes(raw, limit=1 << 16)
    table = json.loads(message.payload) | {"completion_tokens": 1}
    payload = json.dumps(table, sort_keys=True, separators=(",", ":")).encode()
    return replace(message, payload=payload).to_bytes()


async def test_c1_an_altered_receipt_or_other_evidence_fails_by_name(
    worker: RunningWorker, tmp_path: Path
) -> None:
    proof = await receipt(worker)
    file, salts, request, response = proof.save(tmp_path / "r")
    genuine = tmp_path / "hour.json"
    genuine.write_bytes((await hourly.fetch(worker.url, proof.receipt)).to_json())
    other = tmp_path / "other.json"
    other.write_bytes(await _other_purpose(worker))

    def judged(evidence: Path) -> tuple[int, str]:
        bodies = ("--request", str(request), "--response", str(response), "--salts", str(salts))
        policy = ("-p", str(worker.policy_file), "--evidence", str(evidence))
        done = cloister("receipt", "verify", str(file), *policy, *bodies)
        return done.returncode, done.stdout

    assert judged(genuine)[0] == 3  # it holds, and is simulated
    code, shown = judged(other)
    assert code == 10
    assert "FAIL  receipt receipt.period" in shown
    response.write_bytes(response.read_bytes().replace(b"assistant", b"user"))
    assert "FAIL  receipt receipt.response" in judged(genuine)[1]
    file.write_bytes(_forged_tokens(proof.signed.raw))
    assert "FAIL  receipt receipt.signature" in judged(genuine)[1]
    file.write_bytes(proof.signed.raw[:-1])
    assert judged(genuine)[0] == 30


def _without_last(body: bytes) -> bytes:
    return b"".join(chunks(body)[:-1])


def _last_flipped(body: bytes) -> bytes:
    return body[:-40] + bytes([body[-40] ^ 1]) + body[-39:]


@pytest.mark.parametrize("mangle", [_without_last, _last_flipped])
async def test_c2_a_receipt_cannot_be_kept_from_the_client(
    worker: RunningWorker, mangle: Callable[[bytes], bytes]
) -> None:
    def rewrite(answer: Answer) -> Answer:
        return replace(answer, body=mangle(answer.body)) if answer.path == "/ohttp" else answer

    async with AsyncClient(worker.url, worker.policy, wire=Rewriter(worker.url, rewrite)) as client:
        with pytest.raises(BrokenAnswer):
            async for _ in client.stream(PROMPT, receipt=True, **OPTIONS):
                pass


async def test_c3_receipts_tell_nothing_of_what_was_said(worker: RunningWorker) -> None:
    first, second = await receipt(worker), await receipt(worker)
    assert first.request == second.request
    assert first.receipt.request != second.receipt.request
    answer = json.loads(first.response)["choices"][0]["message"]["content"]
    for secret in (PROMPT, answer):
        assert not windows_found(secret.encode(), first.signed.raw)
    # A guess of the whole body is of no use without the salt.
    assert commitment(first.request, second.salts.request) != first.receipt.request
    assert commitment(first.request, first.salts.request) == first.receipt.request


async def test_c3_evidence_of_the_hour_is_public_and_holds_no_salt(worker: RunningWorker) -> None:
    proof = await receipt(worker)
    bundle: Bundle = await hourly.fetch(worker.url, proof.receipt)
    for salt in (proof.salts.request, proof.salts.response):
        assert not windows_found(salt, bundle.to_json() + worker.output.encode())


@pytest.mark.parametrize("when", ["never", "before it begins", "while it answers"])
async def test_c9_a_receipt_names_no_adapter_that_was_swapped_under_the_request(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreed = LoadedModel(name="adapter", root=b"\1" * 32, owner="")
    honest = InProcess._application

    def load(worker: InProcess, root: bytes) -> None:
        worker.workload = replace(worker.workload, adapters=(replace(agreed, root=root),))

    async def meddled(worker: InProcess, scope: Scope, receive: Receive, send: Send) -> None:
        async def late(message: Message) -> None:
            if when == "while it answers":
                load(worker, b"\2" * 32)
            await send(message)

        if when == "before it begins":
            load(worker, b"\2" * 32)
        await honest(worker, scope, receive, late)

    monkeypatch.setattr(InProcess, "_application", meddled)
    async with in_process() as worker:
        load(worker, agreed.root)
        policy = worker.policy()
        assert policy.workload is not None
        rules = replace(policy.workload, allow_any_adapter=True)
        vars(worker)["policy"] = lambda: replace(policy, workload=rules)
        async with worker.client() as client:
            if when == "never":
                assert (await client.ask("one", model="adapter", receipt=True)).receipt is not None
                return
            with pytest.raises(BrokenAnswer):
                await client.ask("one", model="adapter", receipt=True)
