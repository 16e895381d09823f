"""A sealed model in a real worker: released by a broker, measured, and answering like the plain one."""

import hashlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from attestation import Outcome, Policy, Rejected
from client.artifacts.seal import Sealed, seal
from cloister import Client
from enclave.model_files import model_root
from sealing.artifact import Kind
from tests.artifacts.brokered import Broker, broker
from tests.artifacts.made import OTHER, OWNER, order, secret_for
from tests.running import FAQ, RunningWorker, cloister

KEY = hashlib.sha256(b"the owners' data key").digest()
SAILOR = FAQ.parent / "adapters" / "sailor"
QUESTION = "What does attestation prove?"
PROMPT = "Nobody but the worker reads the word xylographically"


@dataclass
class Owners:
    """A model owner's and an adapter owner's artifacts, and the broker that has both keys."""

    directory: Path
    broker: Broker
    model: Sealed
    adapter: Sealed
    policy: str

    @property
    def uploads(self) -> Path:
        return self.directory / "uploads"

    def options(self, *more: str) -> tuple[str, ...]:
        return (
            *("--model", str(self.directory / "model"), "--name", "faq"),
            *("--broker", self.broker.url, "--broker-plaintext", *more),
        )


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owners]:
    directory = tmp_path_factory.mktemp("owners")
    (directory / "uploads").mkdir()
    for name, key in (("model", OWNER), ("adapter", OTHER)):
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (directory / f"{name}.pem").write_bytes(private)
        (directory / f"{name}.pub").write_bytes(public)
    model = seal(order(FAQ, chunk_size=1 << 16, name="faq", data_key=KEY), directory / "model")
    adapter = seal(
        order(
            SAILOR,
            kind=Kind.ADAPTER,
            owner=OTHER,
            base=model.signed.manifest.root,
            name="sailor",
            data_key=KEY,
        ),
        directory / "sailor",
    )
    written = directory / "release.toml"
    done = cloister(
        *("measure", "--model", str(directory / "model"), "--name", "faq", "--engine", "threads=1"),
        *("--adapter", f"sailor={directory / 'sailor'}", "--write-policy", str(written)),
    )
    assert done.returncode == 0, done.stderr
    assert model.signed.manifest.owner.hash.hex() in done.stdout
    with broker(directory) as running:
        policy = written.read_text()
        running.put(model.signed, secret_for(model.signed, key=KEY), policy)
        running.put(adapter.signed, secret_for(adapter.signed, key=KEY), policy)
        yield Owners(directory, running, model, adapter, policy)


@pytest.fixture(scope="module")
def sealed_worker(owners: Owners) -> Iterator[RunningWorker]:
    running = RunningWorker(
        owners.directory,
        owners.options(
            *("--adapter", f"sailor={owners.directory / 'sailor'}", "--uploads", str(owners.uploads)),
            *("--admit-owner", str(owners.directory / "adapter.pub")),
        ),
    ).start()
    yield running
    running.stop()


def test_a_sealed_model_answers_like_the_plain_one(
    sealed_worker: RunningWorker, worker: RunningWorker
) -> None:
    for model in ("faq", "sailor"):
        answers = []
        for running in (sealed_worker, worker):
            with Client(running.url, running.policy) as client:
                answers.append(client.ask(QUESTION, model=model, temperature=0, logprobs=True, max_tokens=40))
        assert answers[0].text == answers[1].text != ""


def test_what_is_loaded_stands_in_the_evidence(sealed_worker: RunningWorker, owners: Owners) -> None:
    with Client(sealed_worker.url, sealed_worker.policy) as client:
        claims = client.attest().claims["bundle"]
    model, adapter = owners.model.signed.manifest, owners.adapter.signed.manifest
    assert claims["models"] == [
        {"name": "faq", "root": model_root(FAQ).hex(), "owner": model.owner.hash.hex()}
    ]
    assert claims["adapters"] == [
        {"name": "sailor", "root": model_root(SAILOR).hex(), "owner": adapter.owner.hash.hex()}
    ]


def test_a_policy_that_does_not_name_the_owner_rejects(sealed_worker: RunningWorker, owners: Owners) -> None:
    text = sealed_worker.policy_file.read_text()
    owner = owners.model.signed.manifest.owner.hash.hex()
    stranger = Policy.from_toml(text.replace(owner, "00" * 32))
    with Client(sealed_worker.url, stranger) as client, pytest.raises(Rejected) as refused:
        client.attest()
    failed = {
        result.check: result for result in refused.value.verdict.results if result.outcome != Outcome.PASS
    }
    assert failed.keys() == {"workload.models"} and owner in failed["workload.models"].found


def test_nothing_secret_is_on_disk_or_in_the_log(sealed_worker: RunningWorker, owners: Owners) -> None:
    """Mapped and open files, the log, all in the worker's directory: no weights, prompts or keys."""
    with Client(sealed_worker.url, sealed_worker.policy) as client:
        client.ask(PROMPT, model="faq", max_tokens=5)
    weights = (FAQ / "model.safetensors").read_bytes()
    secrets = [weights[at : at + 16] for at in range(100_000, len(weights), 500_000)]
    secrets += [KEY, KEY.hex().encode(), PROMPT.encode()]
    places = sealed_worker.files()
    assert any(str(owners.directory) in str(place) for place in places)
    assert any("libtorch" in place.name for place in places)  # the device's process is among those searched
    for place in places:
        content = place.read_bytes()
        assert not [secret for secret in secrets if secret in content], place
    assert PROMPT not in sealed_worker.output and KEY.hex() not in sealed_worker.output
    # The search finds what is there: the plain model holds every one of the windows.
    assert all(secret in weights for secret in secrets[:-3])


def test_a_broker_that_is_not_reached_is_told_from_one_that_refuses(owners: Owners) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    options = ["serve", "--port", "0", "--engine", "threads=2", *owners.options()]
    refused = cloister(*options)  # not what the policy pins that the owner has there
    assert refused.returncode == 10 and "not started: " in refused.stderr, refused.stderr
    options[options.index(owners.broker.url)] = f"http://127.0.0.1:{port}"
    unreached = cloister(*options)
    assert unreached.returncode == 20 and "is a key broker running there?" in unreached.stderr


def adapter_command(worker: RunningWorker, owners: Owners, do: str, name: str, *more: str) -> str:
    done = cloister(
        *("adapter", do, name, str(owners.directory / "sailor")),
        *("--to", worker.url, "-p", str(worker.policy_file)),
        *(more or ("--owner", str(owners.directory / "adapter.pem"))),
    )
    return f"{done.returncode} {done.stdout}{done.stderr}"


def test_an_owner_uploads_an_adapter_and_loads_it_while_the_worker_serves(
    sealed_worker: RunningWorker, owners: Owners
) -> None:
    to = ("--to", sealed_worker.url, "-p", str(sealed_worker.policy_file))
    assert "not uploaded" in adapter_command(sealed_worker, owners, "load", "pirate")
    done = cloister("upload", str(owners.directory / "sailor"), *to)
    assert done.returncode == 3 and "uploaded as" in done.stdout, done.stderr
    (folder,) = owners.uploads.iterdir()
    for name in ("manifest.cose", "chunks", "leaves"):
        assert (folder / name).read_bytes() == (owners.directory / "sailor" / name).read_bytes()
    refused = cloister("upload", str(owners.directory / "model"), *to)
    assert refused.returncode == 2 and "takes no uploads of that owner" in refused.stderr
    stranger = ("--owner", str(owners.directory / "model.pem"))
    assert "no orders of that owner" in adapter_command(sealed_worker, owners, "load", "pirate", *stranger)

    assert "loaded pirate" in adapter_command(sealed_worker, owners, "load", "pirate")
    # The policy pins names: a client that has not agreed to the new name is told, and refuses.
    with Client(sealed_worker.url, sealed_worker.policy) as client, pytest.raises(Rejected):
        client.attest()
    root = owners.adapter.signed.manifest.root.hex()
    text = sealed_worker.policy_file.read_text().replace(f'"sailor={root}"', f'"{root}"')
    with Client(sealed_worker.url, Policy.from_toml(text)) as client:
        assert client.models() == ["faq", "pirate", "sailor"]
        told = [
            client.ask(QUESTION, model=name, temperature=0, max_tokens=30).text for name in client.models()
        ]
        assert told[1] == told[2] != told[0]
        sealed_worker.policy_file.with_name("loose.toml").write_text(text)
        loose = ("--owner", str(owners.directory / "adapter.pem"), "-p", str(owners.directory / "loose.toml"))
        assert "unloaded pirate" in adapter_command(sealed_worker, owners, "unload", "pirate", *loose)
        assert client.models() == ["faq", "sailor"]
        assert "no sealed adapter named" in adapter_command(sealed_worker, owners, "unload", "pirate")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("no broker", "needs the address of its key broker"),
        ("denied", "does not"),
        ("tampered", "chunk 3 (model.safetensors)"),
        ("older", "another manifest"),
        ("base", "is for the model with root"),
    ],
)
@pytest.mark.slow
def test_a_worker_that_may_not_load_does_not_start(
    owners: Owners, tmp_path: Path, harm: str, said: str
) -> None:
    options = list(owners.options())
    if harm == "no broker":
        options = options[:4]
    elif harm == "denied":
        options += ["--engine", "max_rows=3"]  # another measurement
    elif harm == "tampered":
        raw = bytearray((owners.directory / "model" / "chunks").read_bytes())
        raw[owners.model.signed.manifest.layout().chunk(3).offset] ^= 1
        options[1] = _copied(owners.directory / "model", tmp_path / "model", chunks=bytes(raw))
    elif harm == "older":
        newer = seal(
            order(FAQ, name="faq", data_key=KEY, supersedes=owners.model.signed.manifest), tmp_path / "model"
        )
        assert newer.signed.manifest.version == 2
        options[1] = str(tmp_path / "model")
    else:
        seal(
            order(SAILOR, kind=Kind.ADAPTER, owner=OTHER, base=bytes(32), name="sailor"), tmp_path / "adapter"
        )
        options += ["--adapter", f"sailor={tmp_path / 'adapter'}"]
    began = time.monotonic()
    with pytest.raises(RuntimeError) as refused:
        RunningWorker(tmp_path, tuple(options)).start()
    assert said in str(refused.value), str(refused.value)
    assert time.monotonic() - began < 60


def _copied(source: Path, target: Path, *, chunks: bytes) -> str:
    target.mkdir()
    (target / "manifest.cose").write_bytes((source / "manifest.cose").read_bytes())
    (target / "chunks").write_bytes(chunks)
    return str(target)
