"""The outside of a worker: what opens, what is refused, and that refusals look alike."""

import asyncio
import json
from typing import Any

import pytest

from attestation import Bundle
from attestation.encoding import b64url_encode
from enclave.gateway.desk import EvidenceDesk
from enclave.gateway.metrics import Metrics
from enclave.gateway.plain import Message, Receive, Scope, Send
from sealing import bhttp, ohttp
from sealing.envelope import Envelope, session_of
from sealing.errors import TruncatedMessage
from tests.gateway.asgi import call
from tests.gateway.world import (
    NOW,
    SESSION,
    Request,
    W,
    build,
    bundle,
    post,
    reply,
    sealed,
)

START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream")],
}


async def test_a_sealed_request_reaches_the_application_without_the_channels_fields() -> None:
    world = build()
    request = sealed(world.keys.kept, headers=((b"authorization", b"Bearer t"),))
    exchange = await post(world, request)
    answer = request.open(exchange)
    assert (exchange.status, answer.status, answer.body) == (200, 200, b'{"echo":"hello"}')
    scope = world.seen[0]
    assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", "/v1/x", b"q=1")
    assert dict(scope["headers"]) == {b"authorization": b"Bearer t", b"host": b"worker"}
    assert session_of(answer.headers) == SESSION


async def test_the_whole_form_works_too() -> None:
    world = build()
    made = Envelope(created=NOW, workload=W, request_id=bytes(16))
    inner = bhttp.encode_request(bhttp.Request("POST", "https", "w", "/v1/x", made.to_fields(), b"hi"))
    body, opener = ohttp.seal_request(world.keys.kept.config, inner)
    exchange = await call(world.gateway, "POST", "/ohttp", body, ohttp.MEDIA_TYPE_REQUEST)
    answer = bhttp.decode_response(ohttp.open_response(opener, exchange.body))
    assert (answer.status, answer.body) == (200, b'{"echo":"hi"}')


async def test_a_one_time_key_opens_once() -> None:
    world = build()
    first, second = (sealed(world.keys.once, request_id=bytes([n]) * 16) for n in (1, 2))
    assert first.open(await post(world, first)).status == 200
    exchange = await post(world, second)
    assert (exchange.status, json.loads(exchange.body)["title"]) == (422, "unknown key")


def altered(request: Request, where: int) -> bytes:
    body = bytearray(request.body)
    body[where] ^= 1
    return bytes(body)


async def test_all_failures_to_open_look_alike() -> None:
    world = build()
    request = sealed(world.keys.kept)
    bodies = [
        altered(request, 20),  # the encapsulated key
        altered(request, -1),  # the final chunk
        altered(request, len(request.body) // 2),
        request.body[:-1],
        request.body + b"x",
        request.body[:40],
        sealed(world.keys.kept, envelope=False).body,
        sealed(world.keys.kept, headers=((b"cloister-created", b"1"),)).body,
    ]
    answers = [await post(world, body) for body in bodies]
    assert {a.status for a in answers} == {400}
    assert len({(a.body, tuple(sorted(a.headers.items()))) for a in answers}) == 1
    assert world.seen == []


async def test_a_replay_never_runs_and_is_told_only_inside_the_seal() -> None:
    world = build()
    request = sealed(world.keys.kept)
    await post(world, request)
    exchange = await post(world, request)
    assert exchange.status == 200
    assert request.open(exchange).status == 409
    assert len(world.seen) == 1


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"workload": bytes(32)}, 409, "workload"),
        ({"created": NOW - 121}, 400, "date"),
        ({"created": NOW + 121}, 400, "date"),
    ],
)
async def test_requests_of_another_workload_or_time_are_refused_inside_the_seal(
    changes: dict[str, Any], status: int, word: str
) -> None:
    world = build()
    request = sealed(world.keys.kept, **changes)
    answer = request.open(await post(world, request))
    assert answer.status == status
    assert json.loads(answer.body)["type"].endswith(word)
    assert world.seen == []


async def test_an_oversized_body_is_refused() -> None:
    world = build(max_request=1000)
    exchange = await post(world, sealed(world.keys.kept, b"x" * 2000))
    assert exchange.status == 413
    assert world.seen == []


async def test_event_streams_are_padded_piece_by_piece() -> None:
    events = [b'data: {"t":"%s"}\n\n' % (b"w" * size) for size in (1, 30, 200)]

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, 200, b"text/event-stream; charset=utf-8", [*events, b""])

    world = build(stream)
    request = sealed(world.keys.kept)
    exchange = await post(world, request)
    assert exchange.complete
    assert len({len(piece) for piece in exchange.pieces[1:-1]}) == 1  # all three events look alike
    body = request.open(exchange).body
    assert [line for line in body.split(b"\n") if line.startswith(b"data")] == [e.strip() for e in events]


async def test_an_application_that_dies_mid_stream_never_looks_complete() -> None:
    async def dies(scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream")],
            }
        )
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        raise RuntimeError("secret prompt")

    world = build(dies)
    request = sealed(world.keys.kept)
    exchange = await post(world, request)
    assert not exchange.complete
    with pytest.raises(TruncatedMessage):
        request.open(exchange)


class Panic(BaseException):
    """As the bindings of Rust libraries raise panics."""


@pytest.mark.parametrize("kind", [RuntimeError, Panic])
async def test_an_application_that_dies_early_answers_500_inside(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def dies(scope: Scope, receive: Receive, send: Send) -> None:
        raise kind("secret prompt")

    world = build(dies)
    request = sealed(world.keys.kept)
    answer = request.open(await post(world, request))
    assert answer.status == 500
    assert json.loads(answer.body)["error"]["type"] == "server_error"
    assert "secret" not in caplog.text


async def test_a_client_that_leaves_cancels_the_application() -> None:
    cancelled = asyncio.Event()

    async def forever(scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream")],
            }
        )
        try:
            while True:
                await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
                await asyncio.sleep(0)
        finally:
            cancelled.set()

    world = build(forever)
    body = sealed(world.keys.kept).body
    media_type = ohttp.MEDIA_TYPE_CHUNKED_REQUEST
    exchange = await call(world.gateway, "POST", "/ohttp", body, media_type, leave_after=3)
    assert cancelled.is_set()
    assert not exchange.complete


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/", "/docs", "/openapi.json"])
async def test_nothing_of_the_api_answers_in_plaintext(path: str) -> None:
    world = build()
    exchange = await call(world.gateway, "POST", path, b'{"prompt": "x"}', "application/json")
    assert exchange.status == 404
    assert b"/ohttp" in exchange.body
    assert world.seen == []


async def test_other_media_types_and_methods_are_refused() -> None:
    world = build()
    assert (await call(world.gateway, "POST", "/ohttp", b"{}", "application/json")).status == 415
    assert (await call(world.gateway, "GET", "/ohttp")).status == 405


async def test_public_paths_answer() -> None:
    world = build()
    assert json.loads((await call(world.gateway, "GET", "/healthz")).body) == {"status": "ok"}
    keys = await call(world.gateway, "GET", "/.well-known/ohttp-gateway")
    assert (keys.body, keys.headers[b"content-type"]) == (b"keys", b"application/ohttp-keys")
    assert b"cloister_requests" in (await call(world.gateway, "GET", "/metrics")).body


async def test_metrics_stand_still_for_ten_seconds() -> None:
    clock = [0.0]
    metrics = Metrics(lambda: clock[0])
    before = metrics.render()
    metrics.request("answered")
    clock[0] = 9.9
    assert metrics.render() == before
    clock[0] = 10.0
    assert metrics.render() != before


async def test_evidence_is_given_for_a_nonce_and_for_nothing_else() -> None:
    world = build()
    nonce = b64url_encode(bytes(32))
    exchange = await call(world.gateway, "GET", "/attestation", query=f"nonce={nonce}")
    assert Bundle.from_json(exchange.body).nonce == bytes(32)
    posted = json.dumps({"nonce": nonce, "session": True}).encode()
    assert (await call(world.gateway, "POST", "/attestation", posted, "application/json")).status == 200
    for query in ("", "nonce=AAAA", f"nonce={nonce}=", "nonce=%FF"):
        assert (await call(world.gateway, "GET", "/attestation", query=query)).status == 400
    for body in (
        b"",
        b"[]",
        b'{"nonce":1}',
        json.dumps({"nonce": nonce, "report_data": "x"}).encode(),
        b"x" * 2000,
    ):
        assert (await call(world.gateway, "POST", "/attestation", body, "application/json")).status == 400


async def test_evidence_is_gathered_one_at_a_time_and_the_queue_is_bounded() -> None:
    running, most = 0, 0

    def slow(nonce: bytes, session: bool) -> Bundle:
        nonlocal running, most
        import time

        running += 1
        most = max(most, running)
        time.sleep(0.002)
        running -= 1
        return bundle(nonce)

    desk = EvidenceDesk(slow, Metrics())
    query = f"nonce={b64url_encode(bytes(32))}"
    answers = await asyncio.gather(*(call(desk, "GET", "/attestation", query=query) for _ in range(60)))
    statuses = [answer.status for answer in answers]
    assert most == 1
    assert statuses.count(200) == 32
    assert statuses.count(503) == 28
    assert all(a.headers[b"retry-after"] for a in answers if a.status == 503)


async def test_a_one_time_key_is_erased_even_if_what_it_opened_is_malformed() -> None:
    world = build()
    assert world.keys.once is not None
    sealer = ohttp.ChunkedRequestSealer(world.keys.once.config)
    body = sealer.header + sealer.seal(b"\x07 not binary HTTP") + sealer.seal(b"", final=True)
    assert (await post(world, body)).status == 400
    assert world.keys.once is None


async def test_a_refused_request_gets_no_next_key() -> None:
    world = build()
    request = sealed(world.keys.kept)
    await post(world, request)
    assert session_of(request.open(await post(world, request)).headers) is None


async def test_a_body_in_countless_pieces_is_refused_like_any_other() -> None:
    world = build()
    sealer = ohttp.ChunkedRequestSealer(world.keys.kept.config)
    head = bhttp.RequestEncoder().head(bhttp.Request("POST", "https", "worker", "/", (), b""))
    exchange = await post(world, sealer.header + sealer.seal(head + b"\x01a" * 5000, final=True))
    assert exchange.status == 400


@pytest.mark.parametrize("name", ["faq", "m" * 64])
async def test_token_lengths_do_not_show_whatever_the_model_is_called(name: str) -> None:
    def event(token: str) -> bytes:
        choice = {"index": 0, "delta": {"content": token}, "finish_reason": None}
        return b"data: %s\n\n" % json.dumps({"id": "c" * 41, "model": name, "choices": [choice]}).encode()

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(
            send, 200, b"text/event-stream", [event(""), *map(event, ("a", "b" * 40, "c" * 120)), b""]
        )

    world = build(stream)
    exchange = await post(world, sealed(world.keys.kept))
    assert len({len(piece) for piece in exchange.pieces[1:-1]}) == 1


async def test_the_head_of_a_stream_has_one_size_with_or_without_a_next_key() -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, 200, b"text/event-stream", [b"data: x\n\n", b""])

    sizes = set()
    for session in (SESSION * 150, SESSION, None):
        world = build(stream)
        world.keys.next_session = lambda session=session: session  # type: ignore[method-assign,misc]
        request = sealed(world.keys.kept)
        exchange = await post(world, request)
        sizes.add(len(exchange.pieces[0]))
        assert request.open(exchange).status == 200
    assert len(sizes) == 1
