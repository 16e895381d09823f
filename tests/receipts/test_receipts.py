"""Receipts from a worker to a client and on to an auditor, in one process."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from attestation import Bundle, Verdict
from client import hourly
from client.auditing import verify_receipt
from client.errors import ApiFailure, ReceiptRefused, WorkerRefused
from client.receipts import Proof
from enclave.receipts.journal import EvidenceJournal
from sealing.receipts import PERIOD, Salts, commitment
from tests.client.inprocess import OTHER, InProcess, in_process


@pytest.fixture
async def worker() -> AsyncIterator[InProcess]:
    async with in_process() as made:
        yield made


async def evidence(worker: InProcess, proof: Proof) -> Bundle:
    return await hourly.fetch("http://127.0.0.1:1", proof.receipt, wire=worker)


async def asked(worker: InProcess, question: str = "one two") -> Proof:
    async with worker.client() as client:
        answer = await client.ask(question, receipt=True)
    assert answer.receipt is not None
    return answer.receipt


def failed(verdict: Verdict) -> set[str]:
    return {str(r.check) for r in verdict.results if r.outcome == "fail"}


async def test_a_plain_answer_has_a_receipt_that_an_auditor_verifies(worker: InProcess) -> None:
    proof = await asked(worker)
    assert (proof.receipt.prompt_tokens, proof.receipt.completion_tokens) == (2, 2)
    assert proof.receipt.model.name == "faq"
    verdict = verify_receipt(
        proof.signed,
        await evidence(worker, proof),
        worker.policy(),
        salts=proof.salts,
        request=proof.request,
        response=proof.response,
    )
    assert verdict.accepted, verdict.summary()
    assert verdict.simulated
    assert verdict.claims["receipt"]["completion_tokens"] == 2


async def test_a_streamed_answer_has_one_after_its_last_piece(worker: InProcess) -> None:
    async with worker.client() as client:
        answer = client.stream("one two three", receipt=True)
        pieces = [piece async for piece in answer]
    assert pieces == ["one", "two", "three"]
    proof = answer.receipt
    assert proof is not None
    assert proof.response.endswith(b"data: [DONE]\n\n")
    assert b": ." not in proof.response  # padding is not covered
    assert proof.receipt.response == commitment(proof.response, proof.salts.response)
    assert verify_receipt(proof.signed, await evidence(worker, proof), worker.policy()).accepted


async def test_nobody_gets_a_receipt_unasked(worker: InProcess) -> None:
    async with worker.client() as client:
        assert (await client.ask("one")).receipt is None
        answer = client.stream("one")
        assert [piece async for piece in answer] == ["one"]
    assert answer.receipt is None
    assert worker.hours == 0


async def test_evidence_is_gathered_once_an_hour_and_workload(worker: InProcess) -> None:
    async with worker.client() as client:
        for _ in range(3):
            await client.ask("one", receipt=True)
        assert worker.hours == 1
        worker.clock.now += PERIOD
        await client.ask("one", receipt=True)
        assert worker.hours == 2
        worker.load(OTHER)
        await client.ask("one", receipt=True)
        assert worker.hours == 3


async def test_after_a_rotation_the_keyset_that_the_client_knows_signs(worker: InProcess) -> None:
    async with worker.client() as client:
        await client.attest()
        worker.identity.rotate()
        proof = (await client.ask("one", receipt=True)).receipt
    assert proof is not None
    assert verify_receipt(proof.signed, await evidence(worker, proof), worker.policy()).accepted


async def test_a_policy_that_demands_one_time_keys_of_requests_takes_a_receipt(worker: InProcess) -> None:
    proof = await asked(worker)
    strict = replace(worker.policy(), require_session=True)
    assert verify_receipt(proof.signed, await evidence(worker, proof), strict).accepted


async def test_other_salts_or_bodies_fail_by_name(worker: InProcess) -> None:
    proof = await asked(worker)
    bundle = await evidence(worker, proof)

    def judged(**given: object) -> Verdict:
        return verify_receipt(proof.signed, bundle, worker.policy(), **given)  # type: ignore[arg-type]

    swapped = Salts(request=proof.salts.response, response=proof.salts.request)
    bodies = {"request": proof.request, "response": proof.response}
    assert failed(judged(salts=swapped, **bodies)) == {"receipt.request", "receipt.response"}
    other = bodies | {"response": proof.response.replace(b"one", b"two")}
    assert failed(judged(salts=proof.salts, **other)) == {"receipt.response"}
    assert judged(**bodies).exit_code == 20  # nothing to judge the bodies by


async def test_a_receipt_does_not_fit_the_evidence_of_another_hour_or_worker(worker: InProcess) -> None:
    proof = await asked(worker)
    async with in_process() as second:
        other = await asked(second)
        assert failed(verify_receipt(proof.signed, await evidence(second, other), worker.policy())) >= {
            "receipt.keyset",
            "receipt.signature",
        }
    worker.clock.now += PERIOD
    later = await asked(worker)
    verdict = verify_receipt(proof.signed, await evidence(worker, later), worker.policy())
    assert failed(verdict) == {"receipt.period", "bundle.nonce"}


async def test_evidence_of_another_workload_does_not_fit(worker: InProcess) -> None:
    proof = await asked(worker)
    worker.load(OTHER)
    later = await asked(worker)
    verdict = verify_receipt(proof.signed, await evidence(worker, later), worker.policy())
    assert failed(verdict) == {"receipt.workload", "receipt.loaded"}


async def test_evidence_for_a_nonce_of_somebodys_choice_does_not_fit(worker: InProcess) -> None:
    proof = await asked(worker)
    async with worker.client() as client:
        bundle, _ = await client.examine()
    assert "receipt.period" in failed(verify_receipt(proof.signed, bundle, worker.policy()))


async def test_an_hour_that_is_not_kept_is_404(worker: InProcess) -> None:
    proof = await asked(worker)
    other = replace(proof.receipt, time=proof.receipt.time - PERIOD)
    with pytest.raises(WorkerRefused, match="no evidence of that hour"):
        await hourly.fetch("http://127.0.0.1:1", other, wire=worker)


async def test_errors_of_the_application_carry_no_receipt(worker: InProcess) -> None:
    async def failing(scope: object, receive: object, send) -> None:  # type: ignore[no-untyped-def]
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"error": {"message": "no"}}'})

    worker._application = failing  # type: ignore[method-assign]
    worker.__post_init__()
    async with worker.client() as client:
        with pytest.raises(ApiFailure, match="no"):
            await client.ask("one", receipt=True)


async def test_an_answer_whose_receipt_is_missing_is_refused(worker: InProcess) -> None:
    worker.gateway.oblivious.application.signer.sign_receipt = lambda *_: b"\xd2"  # type: ignore[attr-defined]
    async with worker.client() as client:
        with pytest.raises(ReceiptRefused):
            await client.ask("one", receipt=True)


async def test_the_journal_is_bounded() -> None:
    made: list[bytes] = []

    class Made:
        def to_json(self) -> bytes:
            return b"{}"

    def gather(nonce: bytes, keyset: bytes, workload: bytes) -> Bundle:
        made.append(nonce)
        return Made()  # type: ignore[return-value]

    journal = EvidenceJournal(gather, limit=2)
    for hour in range(4):
        journal.ensure(hour * PERIOD, b"k", b"w")
    assert [journal.find(hour * PERIOD, None, None) for hour in range(4)] == [None, None, b"{}", b"{}"]
    assert len(made) == 4


async def test_what_is_saved_apart_from_the_receipt_is_its_owners_alone(
    worker: InProcess, tmp_path: Path
) -> None:
    proof = await asked(worker)
    (tmp_path / "a.receipt.salts").write_bytes(b"of an earlier receipt, and anybody may read it")
    public, *private = proof.save(tmp_path / "a.receipt")
    assert public.read_bytes() == proof.signed.raw
    assert {path.suffix for path in private} == {".salts", ".request", ".response"}
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
