"""Who may share a prefix cache, who goes first: salts and tenants on their way to the engine."""

import hashlib
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.encoding import b64url_encode, lp
from enclave.api.sharing import HEADER, share_key
from enclave.api.tenants import Issuer, Tenants
from enclave.engine.interface import GenerationRequest, Priority
from tests.api.scripted import ROOT, app

KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
TENANTS = Tenants([Issuer(KEY.public_key())])
SALT = bytes(range(32))
BODY = {"model": "faq", "messages": [{"role": "user", "content": "Hi"}]}


def token(**claims: Any) -> str:
    whole = {"sub": "acme", "aud": "cloister", "exp": int(time.time()) + 60} | claims
    return jwt.encode(whole, KEY, algorithm="EdDSA")


async def seen(headers: dict[str, str], model: str = "faq") -> GenerationRequest:
    async with app(tenants=TENANTS) as (client, engine):
        response = await client.post("/v1/chat/completions", json=BODY | {"model": model}, headers=headers)
        assert response.status_code == 200, response.text
    (request,) = engine.seen
    assert isinstance(request, GenerationRequest)
    return request


def test_the_share_key_is_one_hash_over_length_prefixed_parts() -> None:
    parts = (b"cloister/prefix-share/v1", SALT, b"acme", ROOT, b"")
    expected = hashlib.sha256(b"".join(lp(part) for part in parts)).digest()
    assert share_key(SALT, "acme", ROOT, b"") == expected
    assert share_key(None, "acme", ROOT, b"") is None


async def test_salt_tenant_model_and_adapter_each_make_another_key() -> None:
    salted = {HEADER: b64url_encode(SALT)}
    one, two = {"authorization": f"Bearer {token()}"}, {"authorization": f"Bearer {token(sub='other')}"}
    shares = [
        (await seen(one | salted)).share,
        (await seen(two | salted)).share,
        (await seen(one | salted, "sailor")).share,
        (await seen(one | {HEADER: b64url_encode(SALT[::-1])})).share,
    ]
    assert len({share for share in shares if share is not None}) == 4
    assert (await seen(one | salted)).share == shares[0]
    assert (await seen(one)).share is None


@pytest.mark.parametrize("salt", ["", "AAAA", "A" * 90, "A" * 21 + "=", "!" * 22, "A" * 21 + "B"])
async def test_a_salt_that_is_none_is_refused(salt: str) -> None:
    async with app() as (client, engine):
        response = await client.post("/v1/chat/completions", json=BODY, headers={HEADER: salt})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_salt")
    assert engine.seen == []


@pytest.mark.parametrize("priority", ["premium", "standard", "basic"])
async def test_a_tokens_priority_reaches_the_engine(priority: str) -> None:
    request = await seen({"authorization": f"Bearer {token(priority=priority)}"})
    assert (request.priority, request.tenant) == (Priority(priority), "acme")


async def test_without_a_priority_a_tenant_is_standard() -> None:
    assert (await seen({"authorization": f"Bearer {token()}"})).priority is Priority.STANDARD


@pytest.mark.parametrize("priority", ["first", "", None, 1, ["premium"]])
async def test_an_unknown_priority_is_refused(priority: Any) -> None:
    async with app(tenants=TENANTS) as (client, engine):
        headers = {"authorization": f"Bearer {token(priority=priority)}"}
        response = await client.post("/v1/chat/completions", json=BODY, headers=headers)
    assert response.status_code == 401
    assert "premium, standard, basic" in response.json()["error"]["message"]
    assert engine.seen == []


async def test_without_a_token_nothing_of_the_body_is_looked_at() -> None:
    async with app(tenants=TENANTS) as (client, _):
        response = await client.post("/v1/embeddings", content=b"[" * 100_000)
    assert response.status_code == 401
