"""The broker's HTTP face under arbitrary requests: never a 500, never a key, always in the server's form."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.broker.app import MAX_BODY, build
from client.broker.errors import StoreError
from client.broker.tokens import admin_token
from sealing import kbs
from tests.broker.machines import NOW, Machine, bound
from tests.broker.world import ADMIN, MASTER, SECRET, World
from tests.gateway.asgi import Exchange

HEADERS = list[tuple[bytes, bytes]]


async def call(
    app: FastAPI, method: str, path: str, body: bytes = b"", headers: HEADERS | None = None
) -> Exchange:
    """One request with headers."""
    exchange, sent = Exchange(), False

    async def receive() -> dict[str, object]:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            exchange.status = int(str(message["status"]))
            exchange.headers = dict(message["headers"])  # type: ignore[call-overload]
        else:
            exchange.pieces.append(bytes(message.get("body", b"")))  # type: ignore[call-overload]

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers or []}
    await app(scope, receive, send)  # type: ignore[arg-type]
    return exchange


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("app") / "broker.db")
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def app(shared_world: World) -> FastAPI:
    return build(shared_world.service)


SEGMENT = st.sampled_from(
    [
        "auth",
        "attest",
        "resource",
        "attestation-policy",
        "resource-policy",
        "default",
        "model",
        "faq",
        "..",
        "",
    ]
) | st.text(max_size=12)
METHOD = st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD", "PATCH", "OPTIONS"])
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda x: (
        st.lists(x, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "version",
                    "tee",
                    "extra-params",
                    "runtime-data",
                    "tee-evidence",
                    "nonce",
                    "policy",
                    "policy_id",
                ]
            ),
            x,
            max_size=4,
        )
    ),
    max_leaves=10,
)
BODY = st.binary(max_size=64) | VALUE.map(lambda value: json.dumps(value).encode())
HEADER = st.sampled_from([b"cookie", b"authorization", b"content-type", b"content-length", b"host"])
TEXT = st.sampled_from(
    [b"kbs-session-id=", b"Bearer ", b"Bearer a.b.c", b"kbs-session-id=x; kbs-session-id=y"]
) | st.binary(max_size=40)


def harmless(exchange: Exchange) -> None:
    assert 200 <= exchange.status < 500 or exchange.status == 503, exchange.status
    whole = exchange.body + repr(exchange.headers).encode()
    for secret in (SECRET.key, MASTER, SECRET.to_bytes(), SECRET.key.hex().encode()):
        assert secret not in whole
    assert b"Traceback" not in whole


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    METHOD, st.lists(SEGMENT, max_size=6), BODY, st.lists(st.tuples(HEADER, TEXT), max_size=3), st.booleans()
)
async def test_whatever_is_asked_the_answer_is_harmless(
    app: FastAPI,
    shared_world: World,
    method: str,
    path: list[str],
    body: bytes,
    headers: HEADERS,
    admin: bool,
) -> None:
    if admin:
        token = admin_token(ADMIN, now=shared_world.clock.now)
        headers = [*headers, (b"authorization", f"Bearer {token}".encode())]
    harmless(await call(app, method, "/kbs/v0/" + "/".join(path), body, headers))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["runtime-data", "tee-evidence", "init-data", "cloister"]), VALUE, st.integers(0, 1 << 16)
)
async def test_attestations_with_a_part_replaced_are_refused(
    app: FastAPI, shared_world: World, box: Machine, name: str, value: object, flip: int
) -> None:
    session, challenge = shared_world.auth()
    sent = json.loads(box.attest(challenge, kbs.TeeKeyPair.generate(), bound(NOW)).to_bytes())
    raw = bytearray(json.dumps(sent | {name: value}).encode())
    raw[flip % len(raw)] ^= 1
    cookie = [(b"cookie", f"kbs-session-id={session}".encode())]
    answer = await call(app, "POST", "/kbs/v0/attest", bytes(raw), cookie)
    harmless(answer)
    if name in ("runtime-data", "tee-evidence"):
        assert answer.status == 401
        assert json.loads(answer.body).keys() == {"type", "detail"}


async def test_nothing_else_answers(app: FastAPI) -> None:
    for path in ("/", "/docs", "/openapi.json", "/kbs", "/kbs/v1/auth", "/redoc"):
        assert (await call(app, "GET", path)).status == 404
    assert (await call(app, "GET", "/healthz")).body == b"ok\n"


async def test_a_body_that_is_too_large_is_refused(app: FastAPI) -> None:
    answer = await call(app, "POST", "/kbs/v0/auth", b"x" * (MAX_BODY + 1))
    assert answer.status == 413 and json.loads(answer.body)["detail"]


async def test_a_store_that_fails_releases_nothing_and_says_try_again(
    world: World, box: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = world.attested(box)

    def full(*_: object, **__: object) -> None:
        raise StoreError("the database refuses: database or disk is full")

    monkeypatch.setattr(world.store, "release", full)
    cookie = [(b"cookie", f"kbs-session-id={session}".encode())]
    answer = await call(build(world.service), "GET", "/kbs/v0/resource/default/model/faq", b"", cookie)
    assert answer.status == 503 and answer.headers[b"retry-after"]
    assert b"disk" not in answer.body
    assert world.released == 0


async def test_health_says_when_nothing_could_be_released(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = build(world.service)
    assert (await call(app, "GET", "/healthz")).status == 200

    def gone() -> None:
        raise StoreError("disk I/O error")

    monkeypatch.setattr(world.store, "check", gone)
    answer = await call(app, "GET", "/healthz")
    assert answer.status == 503 and b"disk" not in answer.body


async def test_a_release_is_counted_though_nobody_waits_for_the_answer(world: World, box: Machine) -> None:
    session = world.attested(box)
    cookie = [(b"cookie", f"kbs-session-id={session}".encode())]

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            assert world.released == 1  # on disk before the first byte of the answer
            raise OSError("gone")

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/kbs/v0/resource/default/model/faq",
        "query_string": b"",
        "headers": cookie,
    }
    with pytest.raises(OSError, match="gone"):
        await build(world.service)(scope, receive, send)  # type: ignore[arg-type]
    assert world.released == 1
    assert Path(world.path).exists()
