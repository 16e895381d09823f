"""Uploads and orders: only what an admitted owner signed is kept or obeyed; broken uploads go on."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.artifacts import sending
from client.artifacts.seal import seal
from client.errors import ApiFailure
from enclave.artifacts.desk import OwnersDesk
from enclave.artifacts.uploads import MAX_PIECE, UploadRefused, Uploads
from sealing import cose
from sealing.artifact.order import MAX_AGE, AdapterOrder, Do
from sealing.errors import MalformedDocument, SignatureRefused
from tests.artifacts.made import OTHER, OWNER, make_model, order, sealed_model

HASH = cose.Signer.of(OWNER).hash
ORDER = AdapterOrder(do=Do.LOAD, name="a", artifact=b"i" * 16, place="", keyset=b"k" * 32, created=1000)


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    sealed_model(tmp_path)
    return tmp_path / "sealed"


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    (tmp_path / "uploads").mkdir()
    return Uploads(tmp_path / "uploads", [HASH])


def read(sealed: Path, name: str) -> bytes:
    return (sealed / name).read_bytes()


def begun(uploads: Uploads, sealed: Path) -> str:
    name = uploads.begin(read(sealed, "manifest.cose"))
    uploads.take_leaves(name, read(sealed, "leaves"))
    return name


def test_what_is_uploaded_is_what_was_sealed(uploads: Uploads, sealed: Path, tmp_path: Path) -> None:
    name, chunks = begun(uploads, sealed), read(sealed, "chunks")
    for start in range(0, len(chunks), 30_001):
        assert not (tmp_path / "uploads" / name / "manifest.cose").exists(), "not an artifact before its end"
        progress = uploads.take(name, start, chunks[start : start + 30_001])
    assert progress.to_json() == {
        "have": len(chunks),
        "total": len(chunks),
        "leaves": False,
        "complete": True,
    }
    for part in ("manifest.cose", "leaves", "chunks"):
        assert read(tmp_path / "uploads" / name, part) == read(sealed, part)
    assert uploads.begin(read(sealed, "manifest.cose")) == name and uploads.progress(name).have == len(chunks)


def test_only_admitted_owners_upload(sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(UploadRefused, match="no uploads of that owner"):
        Uploads(tmp_path / "none", [cose.Signer.of(OTHER).hash]).begin(read(sealed, "manifest.cose"))
    assert not list((tmp_path / "none").iterdir())


def test_an_altered_chunk_is_not_kept_and_the_upload_goes_on(uploads: Uploads, sealed: Path) -> None:
    name, chunks = begun(uploads, sealed), read(sealed, "chunks")
    altered = bytearray(chunks[:50_000])
    altered[20_000] ^= 1
    with pytest.raises(UploadRefused, match=r"chunk 5 \(model"):
        uploads.take(name, 0, bytes(altered))
    have = uploads.progress(name).have
    assert 12_000 < have <= 20_000
    assert uploads.take(name, have, chunks[have:]).have == len(chunks)


def test_what_does_not_fit_is_refused(
    uploads: Uploads, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = read(sealed, "chunks")
    with pytest.raises(UploadRefused, match="COSE"):
        uploads.begin(b"garbage")
    for name in ("..", "0" * 63, "g" * 64, "0" * 64):
        with pytest.raises(UploadRefused):
            uploads.progress(name)
    name = uploads.begin(read(sealed, "manifest.cose"))
    with pytest.raises(UploadRefused, match="leaves first"):
        uploads.take(name, 0, chunks[:100])
    with pytest.raises(UploadRefused, match="do not make the tree"):
        uploads.take_leaves(name, read(sealed, "leaves")[:-32])
    uploads.take_leaves(name, read(sealed, "leaves"))
    for offset, piece in ((5, chunks[:5]), (0, bytes(MAX_PIECE + 1)), (0, chunks + b"x")):
        with pytest.raises(UploadRefused):
            uploads.take(name, offset, piece)
    assert uploads.progress(name).have == 0
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 1000}))
    uploads.begin(read(sealed, "manifest.cose"))  # this one has its room already


def test_a_full_disk_refuses_an_upload(
    uploads: Uploads, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 1000}))
    with pytest.raises(UploadRefused, match="no room"):
        uploads.begin(read(sealed, "manifest.cose"))


def test_the_newest_complete_version_is_found(uploads: Uploads, sealed: Path, tmp_path: Path) -> None:
    old = seal(order(make_model(tmp_path / "again")), tmp_path / "one").signed.manifest
    newer = seal(order(tmp_path / "again", supersedes=old), tmp_path / "two").signed
    assert uploads.find(old.id) is None
    for source in ("two", "one"):
        name = begun(uploads, tmp_path / source)
        uploads.take(name, 0, read(tmp_path / source, "chunks"))
    found = uploads.find(old.id)
    assert found is not None and found.name == newer.hash.hex()


# Orders.


def test_an_order_reads_as_it_was_signed() -> None:
    assert AdapterOrder.read(ORDER.sign(OWNER)) == (ORDER, cose.Signer.of(OWNER))
    ORDER.check(b"k" * 32, 1000 + MAX_AGE)
    for keyset, now in ((b"l" * 32, 1000), (b"k" * 32, 1000 + MAX_AGE + 1), (b"k" * 32, 1000 - MAX_AGE - 1)):
        with pytest.raises(SignatureRefused):
            ORDER.check(keyset, now)


@given(st.integers(0, 400), st.integers(1, 255))
def test_no_altered_order_passes(place: int, change: int) -> None:
    raw = bytearray(ORDER.sign(OWNER))
    raw[place % len(raw)] ^= change
    with pytest.raises((MalformedDocument, SignatureRefused)):
        AdapterOrder.read(bytes(raw))


# Client and desk together, without a worker between them.


class Direct:
    """`AsyncClient.request` to an ASGI application in this process; breaks off after `left` requests."""

    def __init__(self, desk: OwnersDesk, left: int = 10_000) -> None:
        self.desk = desk
        self.left = left
        self.sent = 0

    @asynccontextmanager
    async def request(self, method: str, path: str, body: bytes, headers: Any) -> AsyncIterator[Any]:
        self.left -= 1
        if self.left < 0:
            raise ConnectionError
        self.sent += len(body)
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            messages.append(message)

        await self.desk({"type": "http", "method": method, "path": path}, receive, send)

        class Response:
            status = messages[0]["status"]

            async def read(self, limit: int) -> bytes:
                return bytes(messages[1]["body"])

        yield Response()


def desk(uploads: Uploads | None, **changes: Any) -> OwnersDesk:
    made: Any = OwnersDesk(
        application=None,  # type: ignore[arg-type]
        owners=[HASH],
        library=None,  # type: ignore[arg-type]
        runner=None,  # type: ignore[arg-type]
        uploads=uploads,
        keyset=lambda: b"k" * 32,
        clock=lambda: 1000.0,
    )
    return replace(made, **changes)


async def test_an_upload_that_broke_off_goes_on(uploads: Uploads, tmp_path: Path) -> None:
    plain = make_model(tmp_path / "plain")
    (plain / "big.safetensors").write_bytes(os.urandom(5_000_000))
    sealed = seal(order(plain), tmp_path / "big").signed
    with pytest.raises(ConnectionError):
        await sending.upload(Direct(desk(uploads), left=4), tmp_path / "big")  # type: ignore[arg-type]
    again: Any = Direct(desk(uploads))
    state = await sending.upload(again, tmp_path / "big")
    assert state["complete"] and state["upload"] == sealed.hash.hex()
    assert again.sent < 4_000_000, "what was there was not sent again"


async def test_the_desk_refuses_in_words(uploads: Uploads, sealed: Path) -> None:
    direct: Any = Direct(desk(uploads))
    none: Any = Direct(desk(None))
    for client, method, path, body, said in [
        (direct, "GET", "/cloister/uploads", b"", "404"),
        (direct, "PUT", f"/cloister/uploads/{'0' * 64}/leaves", b"", "manifest first"),
        (direct, "DELETE", f"/cloister/uploads/{'0' * 64}", b"", "404"),
        (direct, "PUT", "/cloister/uploads", b"x", "COSE"),
        (none, "PUT", "/cloister/uploads", read(sealed, "manifest.cose"), "takes no uploads"),
        (direct, "POST", "/cloister/adapters", b"x", "COSE"),
        (direct, "POST", "/cloister/adapters", ORDER.sign(OTHER), "no orders of that owner"),
        (direct, "POST", "/cloister/adapters", replace(ORDER, created=5).sign(OWNER), "403.*made at 5"),
        (
            direct,
            "POST",
            "/cloister/adapters",
            replace(ORDER, keyset=bytes(32)).sign(OWNER),
            "another",
        ),
        (direct, "POST", "/cloister/adapters", replace(ORDER, place="/etc").sign(OWNER), "place is"),
        (direct, "POST", "/cloister/adapters", ORDER.sign(OWNER), "not uploaded"),
        (direct, "POST", "/cloister/adapters", replace(ORDER, name="a b").sign(OWNER), "not a name"),
    ]:
        with pytest.raises(ApiFailure, match=said):
            await sending._ask(client, method, path, body)
