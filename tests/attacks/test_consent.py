"""THREAT_MODEL rows C4 to C8: the operator on what several parties agreed to."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from attestation import LoadedModel, Policy, Rejected, Workload
from client.errors import ApiFailure
from client.sdk import AsyncClient
from client.searching import party_token, search
from cloister.cli.serving import Settings
from enclave.consent.admission import admit
from enclave.consent.rules import govern
from enclave.documents.shelf import Documents, Folder
from enclave.model_files import model_root
from enclave.simulator.measure import measure
from sealing.consent import Consent, OutputRules, canonical_schema
from sealing.errors import ConsentRefused
from tests.api.scripted import answers, app
from tests.attacks.operator import Rewriter
from tests.running import FAQ, RunningWorker, cloister

LETTER = "Patient 4711-QUARTZ-0815, readmitted on 3 April,"
SETTINGS = Settings(None, None, [], ["threads=1"], [])
TERMS = """
version = 1
title = "a lab and a hospital"
expires = 2099-01-01T00:00:00Z
measurement = "{code}"
[base]
name = "faq"
root = "{base}"
[[adapters]]
name = "sailor"
root = "{adapter}"
[output]
max_tokens = 24
[output.schema]
type = "object"
required = ["answer"]
additionalProperties = false
properties.answer = {{ type = "string", minLength = 200 }}
[[data]]
name = "letters"
root = "{letters}"
readers = ["hospital"]
[[parties]]
name = "lab"
role = "model owner"
key = "lab.pub"
[[parties]]
name = "hospital"
role = "prompt owner"
key = "hospital.pub"
"""


def keys(folder: Path, name: str) -> Path:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)
    private = folder / f"{name}.key"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return private


@pytest.fixture(scope="module")
def agreed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A consent to what is shipped, made and signed on the command line."""
    folder = tmp_path_factory.mktemp("consent")
    code = measure(SETTINGS.configuration().measured()).digest.hex()
    adapter = model_root(FAQ.parent / "adapters" / "sailor").hex()
    (folder / "letters").mkdir()
    (folder / "letters" / "april.txt").write_text(f"Dear colleague,\n\n{LETTER}\nto be seen again.\n")
    letters = Documents.read(Folder(folder / "letters")).root.hex()
    roots = {"base": model_root(FAQ).hex(), "adapter": adapter, "letters": letters}
    (folder / "terms.toml").write_text(TERMS.format(code=code, **roots))
    file = folder / "joint.consent"
    private = [keys(folder, name) for name in ("lab", "hospital")]
    assert run("new", str(folder / "terms.toml"), "--out", str(file)).returncode == 0
    for key in private:
        assert run("verify", str(file)).returncode == 10
        assert run("sign", str(file), "--key", str(key)).returncode == 0
    assert run("verify", str(file)).returncode == 0
    return file


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return cloister("consent", *words)


@pytest.fixture(scope="module")
def joint(agreed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    """The joint workload, running."""
    documents = ("--documents", f"letters={agreed.parent / 'letters'}")
    worker = RunningWorker(tmp_path_factory.mktemp("joint"), ("--consent", str(agreed), *documents)).start()
    yield worker
    worker.stop()


def refused(consent: Path, *options: str) -> str:
    """What a worker that must not start says; its exit status is 10."""
    done = cloister("serve", "--port", "0", "--engine", "threads=1", "--consent", str(consent), *options)
    assert done.returncode == 10, done.stderr
    assert "listening" not in done.stdout
    return done.stderr.partition("worker: not started: ")[2]


def test_c4_a_changed_consent_does_not_start_the_workload(agreed: Path, tmp_path: Path) -> None:
    consent = Consent.from_bytes(agreed.read_bytes())
    output = replace(consent.manifest.output, max_tokens=500)
    changed = replace(consent, manifest=replace(consent.manifest, output=output))
    (tmp_path / "changed").write_bytes(changed.to_bytes())
    said = refused(tmp_path / "changed")
    assert "not every party has signed this consent" in said
    assert said.count("signed another consent") == 2


def test_c5_other_code_than_was_signed_for_does_not_start(agreed: Path) -> None:
    assert "the parties signed for code" in refused(agreed, "--engine", "max_rows=3")  # measured


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": (LoadedModel(name="faq", root=bytes(32), owner=""),)}, "base model faq is root 0000"),
        ({"adapters": ()}, "adapter sailor is in the consent and is not loaded"),
    ],
)
def test_c5_other_weights_than_were_signed_for_do_not_start(
    agreed: Path, change: dict[str, Any], said: str
) -> None:
    consent = Consent.from_bytes(agreed.read_bytes())
    manifest = consent.manifest
    (base, adapter), (letters,) = (manifest.base, *manifest.adapters), manifest.data
    workload = Workload(
        software="test",
        models=(LoadedModel(name=base.name, root=base.root, owner=""),),
        adapters=(LoadedModel(name=adapter.name, root=adapter.root, owner=""),),
        engine={},
        policies=(),
        consent="",
        clock="host",
    )
    given: dict[str, Any] = {"measurement": manifest.measurement, "data": {letters.name: (letters.root, "")}}
    assert admit(consent, workload, **given, now=0) == manifest
    with pytest.raises(ConsentRefused, match=said):
        admit(consent, replace(workload, **change), **given, now=0)


async def test_c6_a_worker_without_the_consent_gets_no_prompt(
    agreed: Path, joint: RunningWorker, worker: RunningWorker
) -> None:
    digest = Consent.from_bytes(agreed.read_bytes()).manifest.digest
    without = worker.policy_file.read_text()
    demanding = Policy.from_toml(without.replace("consents = []", f'consents = ["{digest}"]'))
    wire = Rewriter(worker.url)
    async with AsyncClient(worker.url, demanding, wire=wire) as client:
        with pytest.raises(Rejected, match=r"workload\.consent: fail \(none\)"):
            await client.ask("my secret")
    assert wire.requests == []
    # The other way round: who agreed to nothing does not take a worker under somebody's consent.
    strict = Policy.from_toml(joint.policy_file.read_text().replace(f'["{digest}"]', "[]"))
    async with AsyncClient(joint.url, strict) as client:
        with pytest.raises(Rejected, match=r"workload\.consent"):
            await client.ask("my secret")
    async with AsyncClient(joint.url, joint.policy) as client:
        assert (await client.attest()).verdict.accepted


async def test_c7_nothing_comes_out_beyond_what_was_agreed(joint: RunningWorker) -> None:
    async with AsyncClient(joint.url, joint.policy) as client:
        answer = await client.ask("What is HPKE?", temperature=0, max_tokens=60, receipt=True)
        assert (answer.usage["completion_tokens"], answer.finish_reason) == (24, "length")
        assert re.match(r'\{\s*"answer"\s*:\s*"', answer.text)  # the schema that was agreed, unasked
        with pytest.raises(ApiFailure, match="fixes the JSON Schema of every answer"):
            await client.ask("What is HPKE?", response_format={"type": "text"})
        assert answer.receipt is not None
        assert answer.receipt.receipt.consent.startswith("sha256:")
        for asked in ({"logprobs": True}, {"top_logprobs": 2}):
            with pytest.raises(ApiFailure, match="consent in force does not allow log-probabilities"):
                await client.ask("What is HPKE?", **asked)
        with pytest.raises(ApiFailure, match="biases measure log-probabilities"):
            await client.ask("What is HPKE?", logit_bias={"5": 50})
        async with client.request("POST", "/v1/embeddings", b"{}") as response:
            assert response.status == 403


def token(agreed: Path, name: str) -> str:
    """A token of the hospital's, signed with the key of `name`."""
    key = load_pem_private_key((agreed.parent / f"{name}.key").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return party_token("hospital", key)


async def test_c8_passages_are_quoted_to_their_readers_alone(joint: RunningWorker, agreed: Path) -> None:
    async with AsyncClient(joint.url, joint.policy, token=token(agreed, "hospital")) as client:
        (first, *_) = await search(client, "letters", "When was the patient readmitted?")
    assert (first.path, first.first, first.last) == ("april.txt", 3, 4)
    assert first.text == f"{LETTER}\nto be seen again."
    by = ("-p", str(joint.policy_file), "-u", joint.url, "--as", "hospital")
    done = cloister("search", "letters", "readmitted", *by, "--key", str(agreed.parent / "hospital.key"))
    assert (done.returncode, done.stdout.splitlines()[0]) == (3, "april.txt, lines 3-4"), done.stderr
    # Another party of the consent in the reader's name, and nobody at all.
    for other in (token(agreed, "lab"), None):
        async with AsyncClient(joint.url, joint.policy, token=other) as client:
            with pytest.raises(ApiFailure, match="lets nobody read these documents"):
                await search(client, "letters", "patient")
    assert LETTER not in joint.output


@pytest.mark.parametrize("stream", [False, True])
async def test_c7_an_answer_beside_the_agreed_schema_is_not_quoted_in_the_error(stream: bool) -> None:
    """An engine without masks: what does not follow the schema is asked for again, and then refused."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    rules = OutputRules(max_tokens=64, schema=canonical_schema(schema))
    asked = {"model": "faq", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    body = govern(rules, "/v1/chat/completions", asked)
    async with app(says=answers('{"a": "patient 4711"}'), grammars=False) as (client, _):
        response = await client.post("/v1/chat/completions", json=body)
        assert "did not have the shape" in response.text and "4711" not in response.text
        own = {"type": "json_schema", "json_schema": {"name": "own", "schema": schema}}
        response = await client.post("/v1/chat/completions", json=asked | {"response_format": own})
        assert "4711" in response.text  # whose schema it is alone, sees what was wrong


def test_c4_a_consent_that_was_swapped_since_it_was_read_is_not_signed(agreed: Path, tmp_path: Path) -> None:
    read = Consent.from_bytes(agreed.read_bytes()).manifest
    swapped = replace(read, output=replace(read.output, logprobs=True))
    file, key = tmp_path / "swapped", agreed.parent / "lab.key"
    file.write_bytes(Consent(manifest=swapped).to_bytes())
    before = file.read_bytes()
    done = run("sign", str(file), "--key", str(key), "--digest", read.digest)
    assert done.returncode == 10 and "nothing was signed" in done.stderr
    assert file.read_bytes() == before
    assert run("sign", str(file), "--key", str(key), "--digest", swapped.digest).returncode == 0
