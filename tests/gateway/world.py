"""A gateway with an application behind it, and requests sealed to its keys."""

import json
from dataclasses import dataclass, field
from typing import Any

from attestation import Bundle, CpuEvidence
from enclave.gateway.app import Gateway
from enclave.gateway.desk import EvidenceDesk
from enclave.gateway.metrics import Metrics
from enclave.gateway.oblivious import ObliviousHandler
from enclave.gateway.plain import Receive, Scope, Send
from enclave.gateway.replay import ReplayCache
from sealing import bhttp, ohttp
from sealing.envelope import Envelope
from sealing.hpke import MLKEM768_X25519_AES256 as SUITE
from sealing.hpke import PrivateKey
from tests.gateway.asgi import Exchange, call

W = bytes(range(32))
NOW = 1_800_000_000
SESSION = b'{"session":1}'


def gateway_key(key_id: int) -> ohttp.GatewayKey:
    private = PrivateKey.generate(SUITE.kem)
    config = ohttp.KeyConfig(key_id, SUITE.kem, private.public_key, ((SUITE.kdf, SUITE.aead),))
    return ohttp.GatewayKey(config, private)


@dataclass
class FakeKeys:
    """One key that stays, one that is erased at its first open."""

    kept: ohttp.GatewayKey = field(default_factory=lambda: gateway_key(1))
    once: ohttp.GatewayKey | None = field(default_factory=lambda: gateway_key(2))

    def lookup(self, key_id: int) -> ohttp.GatewayKey | None:
        return {1: self.kept, 2: self.once}.get(key_id)

    def opened(self, key_id: int) -> None:
        if key_id == 2:
            self.once = None

    def next_session(self) -> bytes | None:
        return SESSION


@dataclass
class World:
    """A gateway, its keys and a record of what its application was asked."""

    gateway: Gateway
    keys: FakeKeys
    seen: list[Scope]
    now: float = NOW


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = (await receive())["body"]
    await reply(send, 200, b"application/json", [b'{"echo":' + json.dumps(body.decode()).encode() + b"}"])


async def reply(send: Send, status: int, media_type: bytes, pieces: list[bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", media_type)]})
    for index, piece in enumerate(pieces):
        await send({"type": "http.response.body", "body": piece, "more_body": index + 1 < len(pieces)})


def build(application: Any = echo, max_request: int = 1 << 20) -> World:
    seen: list[Scope] = []

    async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await application(scope, receive, send)

    metrics, keys = Metrics(), FakeKeys()
    world: World
    handler = ObliviousHandler(
        keys=keys,
        workload=lambda: W,
        application=recorded,
        metrics=metrics,
        replay=ReplayCache(),
        clock=lambda: world.now,
        max_request=max_request,
    )
    desk = EvidenceDesk(lambda nonce, session: bundle(nonce), metrics)
    gateway = Gateway(oblivious=handler, desk=desk, metrics=metrics, key_configs=lambda: b"keys")
    world = World(gateway, keys, seen)
    return world


def bundle(nonce: bytes) -> Bundle:
    return Bundle(nonce=nonce, keyset=b"k", workload=b"w", cpu=CpuEvidence(tee="sev-snp", report=b"r"))


@dataclass
class Request:
    """One sealed request and what opens its answer."""

    body: bytes
    sealer: ohttp.ChunkedRequestSealer

    def open(self, exchange: Exchange) -> bhttp.Response:
        opener = self.sealer.response_opener()
        decoder = bhttp.ResponseDecoder()
        events = []
        for plaintext in [*opener.feed(exchange.body), *opener.close()]:
            events += decoder.feed(plaintext)
        events += decoder.close()
        head = next(event for event in events if isinstance(event, bhttp.ResponseHead))
        data = b"".join(event.data for event in events if isinstance(event, bhttp.Data))
        return bhttp.Response(head.status, head.headers, data)


def sealed(
    key: ohttp.GatewayKey | None,
    body: bytes = b"hello",
    *,
    created: int = NOW,
    workload: bytes = W,
    request_id: bytes = bytes(16),
    headers: bhttp.Fields = (),
    envelope: bool = True,
) -> Request:
    assert key is not None
    made = Envelope(created=created, workload=workload, request_id=request_id)
    fields = (*headers, *(made.to_fields() if envelope else ()))
    inner = bhttp.encode_request(bhttp.Request("POST", "https", "worker", "/v1/x?q=1", fields, body))
    sealer = ohttp.ChunkedRequestSealer(key.config)
    half = len(inner) // 2
    parts = [sealer.header, sealer.seal(inner[:half]), sealer.seal(inner[half:], final=True)]
    return Request(b"".join(parts), sealer)


async def post(world: World, request: Request | bytes) -> Exchange:
    body = request if isinstance(request, bytes) else request.body
    return await call(world.gateway, "POST", "/ohttp", body, ohttp.MEDIA_TYPE_CHUNKED_REQUEST)
