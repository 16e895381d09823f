"""Row I: what one client of a worker tries against another."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.encoding import b64url_encode
from enclave.api.app import build
from enclave.api.service import Service
from enclave.api.sharing import HEADER
from enclave.api.tenants import Issuer, Tenants
from enclave.engine.interface import EngineOptions, ModelRefused
from enclave.engine.runner import EngineRunner
from enclave.files import DirectoryFiles
from enclave.text import TextModel
from tests.api.scripted import Books, Scripted
from tests.api.test_slow_readers import LONG, Caller
from tests.running import FAQ

ISSUER = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
SECRET = "The merger of Acme and Bolt closes on the third of May at nine; tell nobody. " * 3
SALT, OTHER_SALT, STOLEN = b"s" * 32, b"t" * 32, b"u" * 32


@dataclass
class Shared:
    """One worker's API for several tenants, over the real engine."""

    client: httpx2.AsyncClient
    runner: EngineRunner

    async def ask(
        self, tenant: str, salt: bytes | None, text: str = SECRET, **fields: Any
    ) -> httpx2.Response:
        headers = {"authorization": f"Bearer {token(tenant)}"}
        if salt is not None:
            headers[HEADER] = b64url_encode(salt)
        body = {"model": "faq", "messages": [{"role": "user", "content": text}], "max_tokens": 2} | fields
        return await self.client.post("/v1/chat/completions", json=body, headers=headers)

    async def read(self, tenant: str, salt: bytes | None) -> int:
        """How many tokens of the prompt the model had to read: what the time to the first token shows."""
        before = self.runner.stats().prompt_tokens
        response = await self.ask(tenant, salt)
        assert response.status_code == 200, response.text
        await asyncio.sleep(0.05)  # the last step's counts
        return self.runner.stats().prompt_tokens - before


def token(tenant: str, key: Ed25519PrivateKey = ISSUER, **claims: Any) -> str:
    whole = {"sub": tenant, "aud": "cloister", "exp": int(time.time()) + 60} | claims
    return jwt.encode(whole, key, algorithm="EdDSA")


@pytest.fixture(scope="module")
def runner() -> Iterator[EngineRunner]:
    from enclave.engine.embedded import EmbeddedEngine

    runner = EngineRunner(EmbeddedEngine.load(DirectoryFiles(FAQ), EngineOptions(threads=1)))
    yield runner
    runner.close()


@pytest.fixture
async def worker(runner: EngineRunner) -> AsyncIterator[Shared]:
    service = Service("faq", TextModel(FAQ), runner, holdings=Books({"faq": bytes(32)}))
    app = build(service, Tenants([Issuer(ISSUER.public_key())]))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://worker") as client:
        yield Shared(client, runner)


async def test_i1_a_guess_at_another_tenants_prompt_finds_no_warm_cache(worker: Shared) -> None:
    whole = await worker.read("acme", SALT)
    assert await worker.read("acme", SALT) < whole // 4  # the control: its own cache is warm
    assert await worker.read("mallory", OTHER_SALT) == whole
    assert await worker.read("mallory", None) == whole
    assert await worker.read("acme", None) == whole


async def test_i2_a_stolen_salt_is_worth_nothing_to_another_tenant(worker: Shared) -> None:
    whole = await worker.read("acme", STOLEN)
    assert await worker.read("acme", STOLEN) < whole // 4
    assert await worker.read("mallory", STOLEN) == whole


@pytest.mark.parametrize(
    "forged",
    [
        token("acme", Ed25519PrivateKey.generate(), priority="premium"),
        jwt.encode({"sub": "acme", "aud": "cloister", "exp": 9e9}, None, algorithm="none"),
        token("acme", priority="root"),
        token("acme", exp=int(time.time()) - 600),
    ],
)
async def test_i3_nobody_names_his_own_tenant_or_priority(worker: Shared, forged: str) -> None:
    body = {"model": "faq", "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"authorization": f"Bearer {forged}"}
    response = await worker.client.post("/v1/chat/completions", json=body, headers=headers)
    assert response.status_code == 401
    priority = await worker.ask("acme", None, priority="premium")
    assert priority.json()["error"]["param"] == "priority"


LAUGHS: dict[str, Any] = {f"x{at}": {"anyOf": [{"$ref": f"#/$defs/x{at + 1}"}] * 9} for at in range(90)}
LAUGHS["x90"] = {"type": "null"}
BOMBS: dict[str, dict[str, Any]] = {
    "references that multiply": {"$ref": "#/$defs/x0", "$defs": LAUGHS},
    "products of alternatives": {
        "allOf": [{"anyOf": [{"pattern": f"{i}{j}"} for i in range(30)]} for j in range(9)]
    },
    "a regular expression that backtracks": {"type": "string", "pattern": "((a{1,1000}){1,1000}){1,1000}"},
    "depth": json.loads('{"items":' * 500 + "{}" + "}" * 500),
    "remainders": {"type": "integer", "multipleOf": 9_999_991},
    "remainders that multiply": {"allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}], "type": "integer"},
    "breadth": {"properties": {str(at): {"type": "string"} for at in range(20_000)}},
}


@pytest.mark.parametrize("name", BOMBS)
async def test_i4_what_explodes_is_refused_before_it_does(worker: Shared, name: str) -> None:
    shape = {"type": "json_schema", "json_schema": {"name": "bomb", "schema": BOMBS[name]}}
    refused, answered = await asyncio.gather(
        worker.ask("mallory", None, response_format=shape), worker.ask("acme", SALT)
    )
    assert (refused.status_code, answered.status_code) == (400, 200)
    assert refused.json()["error"]["code"] == "invalid_schema"
    assert worker.runner.stats().failed_steps == 0


async def test_i4_many_tools_cost_no_more_together_than_one_may(worker: Shared) -> None:
    def tool(at: int) -> dict[str, Any]:
        parameters = {
            "type": "object",
            "properties": {"x": {"type": "integer", "multipleOf": 29_999 - 2 * at}},
        }
        return {"type": "function", "function": {"name": f"f{at}", "parameters": parameters}}

    refused = await worker.ask("mallory", None, tools=[tool(at) for at in range(100)])
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")
    assert "multiples of all schemas together" in refused.json()["error"]["message"]


async def test_i5_who_does_not_read_holds_up_nobody_and_who_leaves_is_cancelled() -> None:
    text = TextModel(FAQ)
    engine = Scripted(text, says=lambda request: LONG * 100, context_length=100_000, pace=0.005)
    runner = EngineRunner(engine)
    application = build(Service("faq", text, runner), Tenants())
    try:
        stalled = [Caller(application, stream=True) for _ in range(8)]
        while not all(caller.sent for caller in stalled):
            await asyncio.sleep(0.01)
        other = Caller(application, max_tokens=5)
        other.gate.set()
        await asyncio.wait_for(other.task, 20)
        assert all(len(caller.sent) == 1 for caller in stalled)
        for caller in stalled:
            caller.task.cancel()
        await asyncio.gather(*(caller.task for caller in stalled), return_exceptions=True)
        while len(engine.cancelled) < len(stalled):
            await asyncio.sleep(0.01)
    finally:
        await asyncio.to_thread(runner.close)


async def test_i8_an_adapter_that_would_hang_the_engine_is_refused_at_once(
    worker: Shared, tmp_path: Path
) -> None:
    """An owner's settings choose layers by expressions: one that backtracks, and one that chooses nothing."""
    evil = shutil.copytree(FAQ.parent / "adapters" / "sailor", tmp_path / "evil")
    path = evil / "adapter_config.json"
    settings = json.loads(path.read_text())
    for change in (
        {"target_modules": "(([a-z0-9._]+)+)+X"},
        {"exclude_modules": "(([a-z0-9._]+)+)+X", "r": 1},
        {"rank_pattern": {"(([a-z0-9._]+)+)+X": 1}, "r": 1},
        {"layers_pattern": "(([a-z0-9._]+)+)+X", "layers_to_transform": [0]},
        {"target_modules": [str(at) for at in range(100_000)]},
    ):
        path.write_text(json.dumps(settings | change))
        with pytest.raises(ModelRefused):
            await worker.runner.load_adapter("evil", DirectoryFiles(evil))
        assert (await worker.ask("acme", SALT)).status_code == 200
