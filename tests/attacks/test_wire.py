"""THREAT_MODEL rows W1 to W6: the operator on the wire."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from client.attested import Sealed
from client.errors import BrokenAnswer, WorkerRefused
from client.sdk import AsyncClient
from sealing import bhttp, ohttp
from sealing.octets import decode_varint
from tests.attacks.operator import Answer, Recorder, Rewriter, windows_found
from tests.running import RunningWorker

PROMPT = "What is HPKE? My case number is 4711-QUARTZ-0815."
ANSWER_OPTIONS = {"temperature": 0, "max_tokens": 60}


async def test_w1_no_window_of_prompt_or_answer_crosses_the_wire(worker: RunningWorker) -> None:
    async with Recorder(worker.url).running() as operator:
        async with AsyncClient(operator.url, worker.policy) as client:
            await client.models()
            framing = bytes(operator.sent + operator.received)  # "content-type: message/..." and the like
            whole = (await client.ask(PROMPT, **ANSWER_OPTIONS)).text
            streamed = "".join([piece async for piece in client.stream(PROMPT, **ANSWER_OPTIONS)])
        captured = bytes(operator.sent + operator.received)
    assert streamed == whole
    assert len(captured) > len(framing) + 4000
    for secret in (PROMPT, whole):
        assert windows_found(secret.encode(), captured) <= windows_found(secret.encode(), framing)
    assert len(windows_found(whole.encode(), framing)) < 3


async def test_w1_control_the_same_hunt_finds_everything_in_plaintext(plain_url: str) -> None:
    """The same question to the same app without its gateway: prompt and answer are found."""
    body = {"model": "faq", "messages": [{"role": "user", "content": PROMPT}], **ANSWER_OPTIONS}
    async with Recorder(plain_url).running() as operator:
        url = f"{operator.url}/v1/chat/completions"
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            answer = (await response.json())["choices"][0]["message"]["content"]
        captured = bytes(operator.sent + operator.received)
    for secret in (PROMPT, answer):
        assert len(windows_found(secret.encode(), captured)) == len(set(_windows(secret)))


def _windows(secret: str) -> list[str]:
    return [secret[i : i + 8] for i in range(len(secret) - 7)]


async def test_w1_neither_disk_nor_log_holds_prompt_or_answer(worker: RunningWorker) -> None:
    async with AsyncClient(worker.url, worker.policy) as client:
        answer = (await client.ask(PROMPT, **ANSWER_OPTIONS)).text
    assert not windows_found(PROMPT[14:].encode(), worker.output.encode())
    assert not windows_found(answer.encode(), worker.output.encode())
    for path in _files(worker.directory):
        for secret in (PROMPT[14:], answer):
            assert not windows_found(secret.encode(), path.read_bytes()), path


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def flip(body: bytes, where: int) -> bytes:
    return body[:where] + bytes([body[where] ^ 1]) + body[where + 1 :]


def chunks(answer: bytes, nonce_size: int = 32) -> list[bytes]:
    """A chunked response cut at its borders: nonce, framed chunks, final chunk."""
    parts, offset = [answer[:nonce_size]], nonce_size
    while True:
        head = decode_varint(memoryview(answer), offset)
        assert head is not None
        length, start = head
        if length == 0:
            return [*parts, answer[offset:]]
        parts.append(answer[offset : start + length])
        offset = start + length


MANGLED = {
    "first byte": lambda body: flip(body, 0),
    "middle": lambda body: flip(body, len(body) // 2),
    "last byte": lambda body: flip(body, len(body) - 1),
    "last byte cut": lambda body: body[:-1],
    "final chunk cut": lambda body: b"".join(chunks(body)[:-1]),
    "last event cut": lambda body: b"".join([*chunks(body)[:-2], chunks(body)[-1]]),
    "first event cut": lambda body: b"".join([*chunks(body)[:2], *chunks(body)[3:]]),
    "events swapped": lambda body: b"".join(
        [*chunks(body)[:2], chunks(body)[3], chunks(body)[2], *chunks(body)[4:]]
    ),
    "event repeated": lambda body: b"".join([*chunks(body)[:3], chunks(body)[2], *chunks(body)[3:]]),
    "byte appended": lambda body: body + b"\0",
    "nothing": lambda body: b"",
}


@pytest.mark.parametrize("how", MANGLED)
async def test_w2_an_altered_answer_never_looks_complete(worker: RunningWorker, how: str) -> None:
    def rewrite(answer: Answer) -> Answer:
        return replace(answer, body=MANGLED[how](answer.body)) if answer.path == "/ohttp" else answer

    wire = Rewriter(worker.url, rewrite)
    async with AsyncClient(worker.url, worker.policy, wire=wire) as client:
        with pytest.raises(BrokenAnswer):
            async for _ in client.stream(PROMPT, **ANSWER_OPTIONS):
                pass


async def post(worker: RunningWorker, body: bytes) -> tuple[int, bytes]:
    headers = {"content-type": ohttp.MEDIA_TYPE_CHUNKED_REQUEST}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{worker.url}/ohttp", data=body, headers=headers) as response,
    ):
        return response.status, await response.read()


async def test_w3_an_altered_request_is_refused_alike_whatever_was_altered(worker: RunningWorker) -> None:
    wire = Rewriter(worker.url)
    async with AsyncClient(worker.url, worker.policy, wire=wire) as client:
        await client.ask(PROMPT, max_tokens=1)
        await client.ask(PROMPT, max_tokens=1)  # sealed to the attested key or to one that is spent
    request = wire.requests[-1]
    answers = set()
    for where in (8, 600, 1200, len(request) // 2, len(request) - 1):
        answers.add(await post(worker, flip(request, where)))
    assert len(answers) == 1
    assert answers.pop()[0] in (400, 422)  # 422 once the one-time key was spent


async def test_w4_a_replayed_request_is_not_answered_again(worker: RunningWorker) -> None:
    async with AsyncClient(worker.url, worker.policy) as client:
        attested = await client.attest()
        body = json.dumps({"model": "faq", "prompt": PROMPT, "max_tokens": 2}).encode()
        headers = ((b"content-type", b"application/json"),)
        request = bhttp.Request("POST", "https", "worker", "/v1/completions", headers, body)
        attested._sessions.clear()  # the key that stays: a one-time key would be gone
        sealed = attested.seal(request, bytes(16), time.time())
    first, again = [_status(sealed, (await post(worker, sealed.body))[1]) for _ in range(2)]
    assert (first, again) == (200, 409)


def _status(sealed: Sealed, answer: bytes) -> int:
    """The status inside; the exchange's opener is used anew for each of two answers."""
    opener, decoder = sealed.request.response_opener(), bhttp.ResponseDecoder()
    events = [e for plain in (*opener.feed(answer), *opener.close()) for e in decoder.feed(plain)]
    return next(event.status for event in events if isinstance(event, bhttp.ResponseHead))


async def test_w5_a_forged_refusal_does_not_run_a_request_twice(worker: RunningWorker) -> None:
    """The operator delivers the request but tells the client that it did not open."""
    forged = Answer("/ohttp", 400, "application/problem+json", b"{}")
    pending = [forged]

    def rewrite(answer: Answer) -> Answer:
        return pending.pop() if answer.path == "/ohttp" and pending else answer

    wire = Rewriter(worker.url, rewrite)
    async with AsyncClient(worker.url, worker.policy, wire=wire) as client:
        with pytest.raises(WorkerRefused, match="already taken"):
            await client.ask(PROMPT, max_tokens=1)
    assert len(wire.requests) == 2


async def test_w6_garbage_at_every_public_path_leaves_the_worker_serving(worker: RunningWorker) -> None:
    async with aiohttp.ClientSession() as session:
        for method, path in [
            ("POST", "/ohttp"),
            ("POST", "/attestation"),
            ("GET", "/attestation?nonce=x"),
            ("POST", "/v1/chat/completions"),
            ("DELETE", "/healthz"),
            ("GET", "/../../etc/passwd"),
        ]:
            for media_type in (
                ohttp.MEDIA_TYPE_CHUNKED_REQUEST,
                ohttp.MEDIA_TYPE_REQUEST,
                "application/json",
            ):
                data = os.urandom(3000) if method == "POST" else None
                async with session.request(
                    method, worker.url + path, data=data, headers={"content-type": media_type}
                ) as response:
                    assert 400 <= response.status < 500
    async with AsyncClient(worker.url, worker.policy) as client:
        assert (await client.ask("hi", max_tokens=1)).usage["completion_tokens"] <= 1
