"""What the operator can do to a sealed artifact that lies with him: the rows beginning with A."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.artifacts.blob import upload
from client.artifacts.errors import OwnerError
from client.artifacts.seal import seal
from enclave.artifacts.desk import OwnersDesk
from enclave.artifacts.sealed_files import ArtifactError, SealedFiles, read_signed
from enclave.artifacts.stores import DirectoryStore, StoreError
from enclave.artifacts.uploads import UploadRefused, Uploads
from sealing import cose
from sealing.artifact import ReleasedSecret, SignedManifest
from sealing.artifact.order import AdapterOrder, Do
from tests.artifacts.made import (
    DATA_KEY,
    OTHER,
    OWNER,
    SMALL,
    make_model,
    order,
    plain_files,
    sealed_model,
    secret_for,
)

LENGTH = SMALL + 16
WEIGHTS = "model-00001-of-00002.safetensors"


class Disk:
    """A sealed model on the operator's disk, and the secret that its owner's broker releases for it."""

    def __init__(self, directory: Path) -> None:
        self.plain = make_model(directory / "plain")
        self.place = directory / "sealed"
        self.signed = seal(order(self.plain), self.place).signed
        self.secret = secret_for(self.signed)
        self.first = self.signed.manifest.layout().of(WEIGHTS).start

    def load(self, secret: ReleasedSecret | None = None, now: float = 0) -> dict[str, bytes]:
        """What a worker does: every file, whole, as loading reads them."""
        store = DirectoryStore(self.place)
        with SealedFiles(store, read_signed(store), secret or self.secret, now) as files:
            return {name: files.read(name) for name in files.sizes}

    def rewrite(self, change: Callable[[bytearray], None]) -> None:
        raw = bytearray((self.place / "chunks").read_bytes())
        change(raw)
        (self.place / "chunks").write_bytes(raw)

    def offset(self, chunk: int) -> int:
        return self.signed.manifest.layout().chunk(chunk).offset


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    made = Disk(tmp_path)
    assert made.load() == plain_files(made.plain)
    return made


def test_a1_an_altered_chunk_is_refused_by_name(disk: Disk) -> None:
    for chunk, place in ((disk.first + 3, 0), (disk.first + 7, SMALL // 2), (disk.first + 9, LENGTH - 1)):
        at = disk.offset(chunk) + place
        disk.rewrite(lambda raw, at=at: raw.__setitem__(at, raw[at] ^ 0x80))  # type: ignore[misc]
        with pytest.raises(ArtifactError, match=rf"chunk {chunk} \({WEIGHTS}\)"):
            disk.load()
        disk.rewrite(lambda raw, at=at: raw.__setitem__(at, raw[at] ^ 0x80))  # type: ignore[misc]
    disk.load()


def test_a2_reordered_and_repeated_chunks_are_refused(disk: Disk) -> None:
    original = (disk.place / "chunks").read_bytes()
    one, two = disk.offset(disk.first + 2), disk.offset(disk.first + 5)

    def swap(raw: bytearray) -> None:
        raw[one : one + LENGTH], raw[two : two + LENGTH] = raw[two : two + LENGTH], raw[one : one + LENGTH]

    def repeat(raw: bytearray) -> None:
        raw[two : two + LENGTH] = raw[one : one + LENGTH]

    for change, named in ((swap, disk.first + 2), (repeat, disk.first + 5)):
        disk.rewrite(change)
        with pytest.raises(ArtifactError, match=rf"chunk {named} .*moved"):
            disk.load()
        (disk.place / "chunks").write_bytes(original)


def test_a3_what_is_cut_off_is_missed(disk: Disk) -> None:
    whole = (disk.place / "chunks").read_bytes()
    for end in (disk.offset(disk.first + 4), disk.offset(disk.first + 4) + 100, 0):
        (disk.place / "chunks").write_bytes(whole[:end])
        with pytest.raises(ArtifactError, match=r"chunk \d+ .*ends before"):
            disk.load()
    # A manifest that claims less is not the owner's: its signature covers files, sizes and runs.
    (disk.place / "chunks").write_bytes(whole)
    shorter = disk.signed.manifest.to_payload().replace(b'"name":"made"', b'"name":"less"')
    message = cose.Sign1.from_bytes((disk.place / "manifest.cose").read_bytes(), limit=1 << 20)
    (disk.place / "manifest.cose").write_bytes(replace(message, payload=shorter).to_bytes())
    with pytest.raises(ArtifactError, match="signature does not verify"):
        disk.load()


def test_a4_an_older_version_is_refused_and_chunks_of_two_do_not_mix(disk: Disk, tmp_path: Path) -> None:
    newer = seal(order(disk.plain, supersedes=disk.signed.manifest), tmp_path / "newer").signed
    assert newer.manifest.id == disk.signed.manifest.id
    released = secret_for(newer)  # the broker releases the newer one; the operator serves the older
    with pytest.raises(ArtifactError, match=r"version 1, is not the one released"):
        disk.load(released)
    (disk.place / "manifest.cose").write_bytes((tmp_path / "newer" / "manifest.cose").read_bytes())
    with pytest.raises(ArtifactError, match=r"chunk 0 .*another version"):
        disk.load(released)
    at = disk.offset(disk.first + 1)
    fresh = bytearray((tmp_path / "newer" / "chunks").read_bytes())
    stale = (disk.place / "chunks").read_bytes()
    fresh[at : at + LENGTH] = stale[at : at + LENGTH]
    (disk.place / "chunks").write_bytes(fresh)
    with pytest.raises(ArtifactError, match=rf"chunk {disk.first + 1} .*another version"):
        disk.load(released)


def test_a5_a_manifest_that_the_operator_signs_is_refused(disk: Disk, tmp_path: Path) -> None:
    """His own artifact under his own key, in the owner's place; and the owner's, signed anew by him."""
    forged = replace(disk.signed.manifest, owner=cose.Signer.of(OTHER)).sign(OTHER)
    own = seal(order(disk.plain, owner=OTHER, data_key=bytes(32)), tmp_path / "own").signed
    for raw in (forged, (tmp_path / "own" / "manifest.cose").read_bytes()):
        (disk.place / "manifest.cose").write_bytes(raw)
        with pytest.raises(ArtifactError, match=r"signed by owner .*released for"):
            disk.load()
    # Even a broker that lies about the manifest cannot make the key fit: the commitment is another.
    (disk.place / "manifest.cose").write_bytes((tmp_path / "own" / "manifest.cose").read_bytes())
    with pytest.raises(ArtifactError, match="not this artifact's"):
        disk.load(secret_for(own, key=DATA_KEY))


def test_a6_a_key_that_has_expired_opens_nothing(disk: Disk) -> None:
    ends = replace(disk.secret, not_after=1000)
    assert disk.load(ends, now=999)
    with pytest.raises(ArtifactError, match="could be used until 1000"):
        disk.load(ends, now=1000)


def test_a7_the_disk_gives_away_names_and_sizes_alone(disk: Disk) -> None:
    stored = b"".join(path.read_bytes() for path in disk.place.iterdir())
    windows = 0
    for content in plain_files(disk.plain).values():
        for start in range(0, len(content) - 8, 64):
            window = content[start : start + 8]
            if len(set(window)) > 4:
                windows += 1
                assert window not in stored
    assert windows > 1000
    assert b"tokenizer.json" in stored  # what is not secret is found, so the search finds what is there
    assert DATA_KEY not in stored and SignedManifest.from_bytes((disk.place / "manifest.cose").read_bytes())


async def test_a8_only_an_adapters_owner_orders_it_loaded(disk: Disk, tmp_path: Path) -> None:
    """He signs one himself, replays one, takes it to another worker, or puts another artifact there."""
    uploads = Uploads(tmp_path, [cose.Signer.of(OWNER).hash])
    name = uploads.begin((disk.place / "manifest.cose").read_bytes())
    uploads.take_leaves(name, (disk.place / "leaves").read_bytes())
    uploads.take(name, 0, (disk.place / "chunks").read_bytes())
    loaded: list[str] = []

    class Books:
        async def add_adapter(self, runner: object, name: str, found: object) -> None:
            loaded.append(name)

    def desk(now: float = 1000, keyset: bytes = b"k" * 32) -> OwnersDesk:
        owners = [cose.Signer.of(OWNER).hash]
        made: Any = {"application": None, "library": Books(), "runner": None}
        return OwnersDesk(owners=owners, uploads=uploads, keyset=lambda: keyset, clock=lambda: now, **made)

    good = AdapterOrder(
        do=Do.LOAD,
        name="a",
        artifact=disk.signed.manifest.id,
        place="",
        keyset=b"k" * 32,
        created=1000,
    )
    forged = good.sign(OWNER).replace(b'"name":"a"', b'"name":"b"')
    for raw, place, error in [
        (good.sign(OTHER), desk(), "no orders of that owner"),
        (forged, desk(), "signature does not verify"),
        (good.sign(OWNER), desk(now=1121), "the order was made at"),
        (good.sign(OWNER), desk(keyset=bytes(32)), "for another worker"),
        (replace(good, artifact=bytes(16)).sign(OWNER), desk(), "not uploaded"),
    ]:
        with pytest.raises(Exception, match=error):
            await place._order(raw)
    # What is found is a model, not the adapter that was ordered: an order cannot stand for something else.
    with pytest.raises(ArtifactError, match="holds a model, not an adapter"):
        await desk()._order(good.sign(OWNER))
    assert not loaded


@pytest.mark.parametrize(
    "host",
    [
        "https://evil.example/container",
        "http://account.blob.core.windows.net/container",
        "https://account.blob.core.windows.net.evil.example/container",
        "https://account.blob.core.windows.net@evil.example/container",
        "https://evil.example\\.blob.core.windows.net/container",
        "https://account.blob.core.windows.net:8443/container",
        "https://evilblob.core.windows.net/container",
    ],
)
async def test_a9_the_machines_identity_is_shown_to_no_host_of_an_owners_choice(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def identity() -> None:
        asked.append(host)
        raise StoreError("an identity was looked for")

    monkeypatch.setattr("enclave.artifacts.blob._default_credential", identity)
    monkeypatch.setattr("client.artifacts.blob.credential", identity)
    made: Any = {"application": None, "library": None, "runner": None, "uploads": None}
    owners = [cose.Signer.of(OWNER).hash]
    desk = OwnersDesk(owners=owners, keyset=lambda: bytes(32), clock=lambda: 1000, **made)
    ordered = AdapterOrder(
        do=Do.LOAD, name="a", artifact=bytes(16), place=f"azblob:{host}", keyset=bytes(32), created=1000
    )
    with pytest.raises(StoreError, match=r"identity is not shown there|without user or password"):
        await desk._order(ordered.sign(OWNER))
    sealed_model(tmp_path)
    with pytest.raises(OwnerError, match="your identity is not shown there"):
        upload(tmp_path / "sealed", host)  # where he tells an owner to upload to
    assert not asked
    azure = replace(ordered, place="azblob:https://account.blob.core.windows.net/container")
    with pytest.raises(StoreError, match="an identity was looked for"):
        await desk._order(azure.sign(OWNER))


@pytest.mark.parametrize("linked", ["folder", "manifest.cose.part", "leaves", "chunks"])
def test_a10_links_among_the_uploads_lead_nowhere(disk: Disk, tmp_path: Path, linked: str) -> None:
    """Admitted himself as an owner, he chooses what is written; his links would choose where."""
    place, target = tmp_path / "uploads", tmp_path / "inside"
    place.mkdir()
    target.mkdir()
    name, files = disk.signed.hash.hex(), ("manifest.cose.part", "leaves", "chunks")
    for each in files:
        (target / each).write_bytes(b"code")
    if linked == "folder":
        (place / name).symlink_to(target)
    else:
        (place / name).mkdir()
        (place / name / linked).symlink_to(target / linked)
    uploads = Uploads(place, [cose.Signer.of(OWNER).hash])
    with pytest.raises(UploadRefused, match=r"cannot be written here|could not be written"):
        assert uploads.begin((disk.place / "manifest.cose").read_bytes()) == name
        uploads.take_leaves(name, (disk.place / "leaves").read_bytes())
        uploads.take(name, uploads.progress(name).have, (disk.place / "chunks").read_bytes()[4:])
    assert all((target / each).read_bytes() == b"code" for each in files)
