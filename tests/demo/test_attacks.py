"""The operator's attacks of the demo, on real bytes: stopped by one check; and successful without it.

Each test runs the attack's own code twice. The second time the check that stops it is taken out here, in the
test: there is no switch for it in the product.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from attestation import Bundle, Outcome, Rejected
from attestation.verdict import Sheet
from client.errors import WorkerRefused
from client.sdk import AsyncClient
from client.wire import WireResponse
from cloister.demo.parties import attacks
from cloister.demo.parties.machines import OLDER
from cloister.demo.parties.searching import hunt
from cloister.demo.parties.second_gpu import SecondGpu
from cloister.demo.parties.tap import Copying
from enclave.artifacts.sealed_files import ArtifactError, SealedFiles
from enclave.artifacts.stores import DirectoryStore
from enclave.consent.admission import admit
from enclave.gateway.replay import Admission, ReplayCache
from enclave.gpu.bus import Geometry
from enclave.simulator.chip import TCB, Platform
from enclave.simulator.measure import measure
from enclave.simulator.sources import ROOT
from sealing import encapsulation
from sealing.artifact import RunCipher
from sealing.consent import Consent, Manifest
from sealing.errors import ConsentRefused
from tests.artifacts.made import plain_files, sealed_model, secret_for
from tests.client.inprocess import CODE, InProcess, in_process
from tests.consent.agreed import KEYS, MANIFEST, NOW
from tests.consent.test_worker import DATA, MEASURED, WORKLOAD
from tests.enclave import simulation
from tests.enclave.simulation import Machine, failed, gpu, judge, small_search_path
from tests.gpu.pairs import Beside, two_links

ROOMY = Geometry(control_slots=8, control_bytes=256, bulk_slots=16, bulk_bytes=1024)
PROMPT = "Patient 4711-QUARTZ-0815 was readmitted on 3 April."


@pytest.fixture
async def worker() -> AsyncIterator[InProcess]:
    async with in_process() as made:
        yield made


def without(patch: pytest.MonkeyPatch, *checks: str) -> None:
    """Take checks out of every verdict: they pass whatever is found."""
    add = Sheet._add

    def adding(self: Sheet, check: str, outcome: Outcome, found: str, expected: str) -> None:
        add(self, check, Outcome.PASS if str(check) in checks else outcome, found, expected)  # type: ignore[arg-type]

    patch.setattr(Sheet, "_add", adding)


@dataclass
class Spliced:
    """The wire to a worker, with the operator's second GPU in its evidence."""

    worker: InProcess
    prompts: int = 0

    @asynccontextmanager
    async def send(self, method: str, path: str, media_type: str, body: bytes) -> AsyncIterator[WireResponse]:
        self.prompts += path == "/ohttp"
        async with self.worker.send(method, path, media_type, body) as response:
            if path != "/attestation":
                yield response
                return
            whole = b"".join([piece async for piece in response.body])
            clock = datetime.fromtimestamp(self.worker.clock(), UTC)
            altered = attacks.spliced(whole, SecondGpu.with_firmware(CODE, lambda: clock))
            yield WireResponse(response.status, response.headers, _once(altered))

    async def close(self) -> None:
        pass


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def test_splice(worker: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Spliced(worker)

    async def ask() -> str:
        client = AsyncClient("http://127.0.0.1:1", worker.policy(), wire=wire, clock=worker.clock)
        return (await client.ask(PROMPT)).text

    with pytest.raises(Rejected, match=r"snp\.report-data"):
        await ask()
    assert wire.prompts == 0
    without(monkeypatch, "snp.report-data")
    assert await ask() == PROMPT
    assert wire.prompts == 1  # sealed to a worker whose GPU is not the one that was shown


class Transparent:
    """An AEAD that does not encrypt."""

    def __init__(self, *_: object) -> None:
        pass

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        return bytes(data) + bytes(16)

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        return bytes(data[:-16])

    def encrypt_into(self, nonce: bytes, data: bytes, associated_data: bytes, out: memoryview) -> None:
        out[: len(data) + 16] = self.encrypt(nonce, data, associated_data)

    def decrypt_into(self, nonce: bytes, data: bytes, associated_data: bytes, out: memoryview) -> None:
        out[: len(data) - 16] = self.decrypt(nonce, data, associated_data)


async def recorded(worker: InProcess) -> bytes:
    """What the operator records of one question."""
    async with worker.client() as client:
        assert (await client.ask(PROMPT)).text == PROMPT
    return b"".join(body for path, body in worker.sent if path == "/ohttp")


async def test_wire(worker: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    found = hunt([PROMPT.encode()], await recorded(worker))
    assert found.windows > 30
    assert found.found == 0
    monkeypatch.setattr(encapsulation, "new_aead", Transparent)
    monkeypatch.setattr("sealing.hpke.new_aead", Transparent)
    found = hunt([PROMPT.encode()], await recorded(worker))
    assert found.found == found.windows


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(folder: Path) -> tuple[int, int]:
        sealed_model(folder)
        secrets = list(plain_files(folder / "plain").values())
        found = hunt(secrets, (folder / "sealed" / "chunks").read_bytes())
        return found.windows, found.found

    windows, found = searched(tmp_path / "a")
    assert windows > 1000
    assert found == 0

    def seal_into(self: RunCipher, chunk: object, plaintext: bytes, into: memoryview) -> None:
        into[: len(plaintext)] = plaintext

    monkeypatch.setattr(RunCipher, "seal_into", seal_into)
    windows, found = searched(tmp_path / "b")
    assert found > 0.9 * windows


def tapped(secret: bytes) -> tuple[int, int]:
    """How many windows a bulk object has, and how many of them the operator has once it has crossed."""
    with two_links(ROOMY) as (bus, worker, device):
        tap = Copying(bus.memory)
        into = memoryview(bytearray(len(secret)))
        receiving = Beside(lambda: device.receive_bulk(into))
        worker.send_bulk([secret])
        receiving.result()
        assert bytes(into) == secret
        assert tap.look()
        found = hunt([secret], bytes(tap.kept))
        del tap
    return found.windows, found.found


def test_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = os.urandom(5000)
    windows, found = tapped(weights)
    assert (windows, found) == (4993, 0)
    monkeypatch.setattr("enclave.gpu.link.keys.AESGCM", Transparent)
    windows, found = tapped(weights)
    assert found > 0.99 * windows  # but for those that lie across two records


async def test_replay(worker: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    async def statuses() -> list[int]:
        """Of the recorded request, sent twice more by the operator."""
        async with worker.client() as client:
            await client.ask(PROMPT)
        sealed = [body for path, body in worker.sent if path == "/ohttp"][-1]
        found = []
        for _ in range(2):
            async with worker.send("POST", "/ohttp", attacks.SEALED_REQUEST, sealed) as response:
                found.append(response.status)
                async for _ in response.body:
                    pass
        return found

    assert await statuses() == [422, 422]
    assert len(worker.answered) == 1
    monkeypatch.setattr(worker.identity, "opened", lambda key_id: None)
    monkeypatch.setattr(ReplayCache, "admit", lambda *_: Admission.ADMITTED)
    assert await statuses() == [200, 200]
    assert worker.answered == [PROMPT] * 4


async def test_replay_under_the_key_that_stays_is_refused_inside_the_seal(worker: InProcess) -> None:
    async with worker.client() as client:
        attested = await client.attest()
        attested._sessions.clear()
        await client.ask(PROMPT)
        sealed = [body for path, body in worker.sent if path == "/ohttp"][-1]
        async with worker.send("POST", "/ohttp", attacks.SEALED_REQUEST, sealed) as response:
            assert response.status == 200  # and a refusal inside, which the operator cannot read
            async for _ in response.body:
                pass
    assert len(worker.answered) == 1
    assert issubclass(WorkerRefused, Exception)


def test_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The changed image is measured as another; whoever does not look at the measurement takes it."""
    attacks.changed_image(tmp_path / "image")
    search = small_search_path(tmp_path / "installed")
    genuine, changed = (measure({}, root=root, search=search) for root in (ROOT, tmp_path / "image"))
    assert f"packages/{attacks.CHANGED}" in genuine.differences(changed)
    assert attacks.CHECK not in (tmp_path / "image" / attacks.CHANGED).read_text()
    evidence = Machine(measurement=changed.digest).bundle()
    assert failed(judge(evidence)) == {"snp.measurement"}
    without(monkeypatch, "snp.measurement")
    assert judge(evidence).accepted


def test_downgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Machine(Platform(tcb=replace(TCB, **OLDER))).bundle()
    checks = {"snp.tcb-reported", "snp.tcb-committed", "snp.tcb-launch", "snp.tcb-current"}
    assert failed(judge(old)) == checks
    without(monkeypatch, *checks)
    assert judge(old).accepted


def test_tamper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = sealed_model(tmp_path / "made").signed
    disk = tmp_path / "disk"
    shutil.copytree(tmp_path / "made" / "sealed", disk / "base")
    assert attacks.flip_chunk(disk).startswith("flipped one bit")

    def read() -> dict[str, bytes]:
        store = DirectoryStore(disk / "base")
        with SealedFiles(store, signed, secret_for(signed), now=0) as files:
            return {name: files.read(name) for name in files.sizes}

    with pytest.raises(ArtifactError, match=r"chunk \d+ .* is refused: altered"):
        read()

    def open_into(self: RunCipher, chunk: object, ciphertext: bytes, into: memoryview) -> None:
        """AES-GCM without its tag: counter mode from the nonce's second block."""
        nonce = chunk.counter.to_bytes(12) + (2).to_bytes(4)  # type: ignore[attr-defined]
        cipher = Cipher(algorithms.AES(self.key), modes.CTR(nonce)).decryptor()  # type: ignore[attr-defined]
        into[:] = cipher.update(bytes(ciphertext)[:-16])

    def init(self: RunCipher, data_key: bytes, artifact_id: bytes, run_id: bytes) -> None:
        from sealing.kdf import expand, extract

        self.key = expand(extract(run_id, data_key), b"cloister/artifact-run/v1" + artifact_id, 32)  # type: ignore[attr-defined]

    monkeypatch.setattr(RunCipher, "__init__", init)
    monkeypatch.setattr(RunCipher, "open_into", open_into)
    plain, got = plain_files(tmp_path / "made" / "plain"), read()
    assert got.keys() == plain.keys()
    assert sum(a != b for name in plain for a, b in zip(plain[name], got[name], strict=True)) == 1


def test_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    consent = Consent(manifest=MANIFEST)
    for key in KEYS.values():
        consent = consent.signed_by(key)
    (tmp_path / "joint.consent").write_bytes(consent.to_bytes())
    attacks.rewrite_consent(tmp_path)
    changed = Consent.from_bytes((tmp_path / "joint.consent").read_bytes())

    def started() -> Manifest:
        return admit(changed, WORKLOAD, measurement=MEASURED, data=DATA, now=NOW)

    with pytest.raises(ConsentRefused, match="not every party has signed"):
        started()
    monkeypatch.setattr(Consent, "check", lambda self, now: self.manifest)
    assert started().output.logprobs


def test_a_second_gpu_signs_the_very_nonce_so_only_the_cpus_word_is_against_it() -> None:
    bundle = Machine(gpus=[gpu()]).bundle()
    spliced = Bundle.from_json(attacks.spliced(bundle.to_json(), SecondGpu(gpu(1), lambda: simulation.NOW)))
    assert failed(judge(spliced)) == {"snp.report-data"}


def test_hunts_find_what_is_there_and_nothing_else() -> None:
    secret = b"eight or more bytes of a secret"
    assert hunt([secret], b"nothing of it here").found == 0
    assert hunt([secret], b"..." + secret).found == hunt([secret], secret.hex().encode()).found == 24
    assert hunt([secret], b"").windows == 24
    assert hunt([bytes(100), b"        " * 9], bytes(1000)).windows == 0
    assert asyncio.iscoroutinefunction(recorded)
