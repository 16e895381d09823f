"""Reading sealed artifacts: the plain bytes from every store, or an error that names the chunk."""

import hashlib
import os
import random
import socket
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.artifacts.seal import seal
from client.artifacts.verify import read_manifest
from enclave.artifacts.http import HttpStore
from enclave.artifacts.sealed_files import ArtifactError, SealedFiles, read_signed
from enclave.artifacts.stores import DirectoryStore, Store, StoreError, is_sealed, store_at
from enclave.files import DirectoryFiles, FilesError
from tests.artifacts.made import SMALL, make_model, order, plain_files, sealed_model, secret_for
from tests.artifacts.server import Handler, serving


def files_of(store: Store) -> SealedFiles:
    signed = read_signed(store)
    return SealedFiles(store, signed, secret_for(signed), now=0)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `plain` and `sealed`."""
    directory = tmp_path_factory.mktemp("artifact")
    sealed_model(directory)
    return directory


def test_every_way_of_reading_gives_the_plain_bytes(sealed: Path) -> None:
    plain = plain_files(sealed / "plain")
    with files_of(DirectoryStore(sealed / "sealed")) as files:
        assert dict(files.sizes) == {name: len(content) for name, content in plain.items()}
        assert list(files.sizes) == list(DirectoryFiles(sealed / "plain").sizes)
        for name, content in plain.items():
            assert files.read(name) == content
            assert b"".join(bytes(piece) for piece in files.chunks(name)) == content
            into = memoryview(bytearray(len(content)))
            files.fill(name, 0, into)
            assert into == content


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 5 * SMALL)), min_size=1, max_size=6))
def test_any_part_of_a_file_can_be_filled(sealed: Path, places: list[tuple[int, int]]) -> None:
    name = "model-00001-of-00002.safetensors"
    content = (sealed / "plain" / name).read_bytes()
    with files_of(DirectoryStore(sealed / "sealed")) as files:
        for offset, length in places:
            start = offset % len(content)
            into = memoryview(bytearray(min(length, len(content) - start)))
            files.fill(name, start, into)
            assert into == content[start : start + len(into)]


def test_what_is_not_there_is_named(sealed: Path, tmp_path: Path) -> None:
    with files_of(DirectoryStore(sealed / "sealed")) as files:
        for wrong in (lambda: files.read("absent"), lambda: next(files.chunks("absent"))):
            with pytest.raises(FilesError, match="no file absent"):
                wrong()
        with pytest.raises(FilesError, match="has"):
            files.fill("config.json", 1, memoryview(bytearray(files.sizes["config.json"])))
    with pytest.raises(StoreError, match="No such file"):
        DirectoryStore(tmp_path)
    assert is_sealed(str(sealed / "sealed")) and not is_sealed(str(sealed / "plain"))
    assert isinstance(store_at("https://example.test/m"), HttpStore)
    with pytest.raises(StoreError, match="without user"):
        HttpStore("http://user:password@example.test/")


def test_a_refused_chunk_leaves_nothing_in_the_callers_memory(tmp_path: Path) -> None:
    sealed_model(tmp_path)
    name = "model-00001-of-00002.safetensors"
    chunk = read_manifest(tmp_path / "sealed").manifest.layout().of(name)[9]
    place = chunk * (SMALL + 16)
    with (tmp_path / "sealed" / "chunks").open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 8)
    with files_of(DirectoryStore(tmp_path / "sealed")) as files:
        into = memoryview(bytearray(b"\x01" * files.sizes[name]))
        with pytest.raises(ArtifactError, match=rf"chunk {chunk} \({name}\)"):
            files.fill(name, 0, into)
        assert not any(into)
        with pytest.raises(ArtifactError, match=rf"chunk {chunk} "):
            list(files.chunks(name))
        assert files.read("config.json") == (tmp_path / "plain" / "config.json").read_bytes()


def test_nothing_opens_after_closing(sealed: Path) -> None:
    files = files_of(DirectoryStore(sealed / "sealed"))
    files.read("config.json")
    files.close()
    files.close()
    with pytest.raises((FilesError, RuntimeError)):
        files.read("model-00001-of-00002.safetensors")
    assert not any(files._part)


# HTTP.


def read_all(url: str) -> dict[str, bytes]:
    with files_of(HttpStore(url, pause=0.001)) as files:
        return {name: b"".join(bytes(piece) for piece in files.chunks(name)) for name in files.sizes}


def test_http_gives_the_same_bytes_and_asks_ahead(sealed: Path) -> None:
    with serving(sealed / "sealed") as server:
        assert read_all(server.url + "?sig=secret") == plain_files(sealed / "plain")
        with files_of(HttpStore(server.url + "?sig=secret")) as files:
            assert files.read("config.json") == (sealed / "plain" / "config.json").read_bytes()
            assert "secret" not in files.label
    assert {path for path, _ in server.asked} == {
        "/models/one/manifest.cose?sig=secret",
        "/models/one/chunks?sig=secret",
    }
    # The second reader wanted one chunk; what comes next was on its way.
    assert len(server.asked) > 3


def test_broken_downloads_are_tried_again(sealed: Path) -> None:
    asked: Counter[str] = Counter()

    def broken(handler: Handler, part: bytes, number: int) -> bool:
        end = handler.headers["Range"].split("-")[1]
        asked[end] += 1
        if asked[end] == 1:
            handler.send_error(503)
            return True
        if asked[end] == 2:  # announced whole, then cut in the middle
            first = handler.headers["Range"].split("=")[1].split("-")[0]
            last = int(first) + len(part) - 1
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {first}-{last}/*")
            handler.send_header("Content-Length", str(len(part)))
            handler.end_headers()
            handler.wfile.write(part[: len(part) // 2])
            handler.close_connection = True
            return True
        return False

    with serving(sealed / "sealed", broken) as server:
        assert read_all(server.url) == plain_files(sealed / "plain")


def answered(status: int, **headers: str):  # type: ignore[no-untyped-def]
    def misbehave(handler: Handler, part: bytes, number: int) -> bool:
        handler.answer(status, part, {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return misbehave


@pytest.mark.parametrize(
    ("misbehave", "said"),
    [
        (answered(302, Location="http://127.0.0.1:1/"), "redirects, which is not followed"),
        (answered(200), "does not know ranges"),
        (answered(206), "another range"),
        (answered(206, Content_Range="bytes 5-9/100"), "another range"),
        (answered(206, Content_Range="bytes 0-99999999/*"), "another range"),
        (answered(206, Content_Range=f"bytes 0-{'9' * 5000}/*"), "another range"),
        (answered(404), "404"),
        (answered(503), "503 Service Unavailable, 5 times"),
    ],
)
def test_servers_that_misbehave_are_refused_naming_the_chunk(sealed: Path, misbehave, said: str) -> None:  # type: ignore[no-untyped-def]
    with (
        serving(sealed / "sealed", misbehave) as server,
        files_of(HttpStore(server.url, pause=0)) as files,
        pytest.raises(ArtifactError, match=rf"chunk 0 \(config.json\) cannot be read: .*{said}"),
    ):
        files.read("config.json")


def test_a_shorter_object_is_refused(tmp_path: Path) -> None:
    """Chunks are asked for side by side: the first that lies behind the end, or the one that it cuts."""
    sealed_model(tmp_path)
    os.truncate(tmp_path / "sealed" / "chunks", 20_000)
    with (
        serving(tmp_path / "sealed") as server,
        files_of(HttpStore(server.url, pause=0)) as files,
        pytest.raises(ArtifactError, match=r"chunk (5 .*ends at byte 19999|[6-9] .*is shorter than)"),
    ):
        files.read("model-00001-of-00002.safetensors")
    with (
        files_of(DirectoryStore(tmp_path / "sealed")) as files,
        pytest.raises(ArtifactError, match=r"chunk 5 .*ends before byte"),
    ):
        files.read("model-00001-of-00002.safetensors")


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(StoreError, match=rf"127.0.0.1:{port}/m/manifest.cose: .*5 times"):
        read_signed(HttpStore(f"http://127.0.0.1:{port}/m", pause=0))


def test_a_server_that_sends_more_than_was_asked_for_confuses_nothing(sealed: Path) -> None:
    def longer(handler: Handler, part: bytes, number: int) -> bool:
        first = int(handler.headers["Range"].split("=")[1].split("-")[0])
        extra = {"Content-Range": f"bytes {first}-{first + len(part) - 1}/*"}
        handler.answer(206, part + b"HTTP/1.1 206 OK\r\n\r\n", extra)
        return True

    with serving(sealed / "sealed", longer) as server:
        assert read_all(server.url) == plain_files(sealed / "plain")


def test_chunks_of_2_mib_and_large_files(tmp_path: Path) -> None:
    plain = make_model(tmp_path / "plain")
    content = random.Random(3).randbytes(9_000_001)
    (plain / "model-big.safetensors").write_bytes(content)
    seal(order(plain, chunk_size=1 << 21), tmp_path / "sealed")
    with files_of(DirectoryStore(tmp_path / "sealed")) as files:
        into = memoryview(bytearray(len(content) - 1000))
        files.fill("model-big.safetensors", 500, into)
        assert hashlib.sha256(into).digest() == hashlib.sha256(content[500:-500]).digest()
        assert max(len(piece) for piece in files.chunks("model-big.safetensors")) == 1 << 21


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), min_size=1, max_size=3))
def test_no_alteration_of_stored_chunks_is_ever_read(
    sealed: Path, tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    """Whatever bytes the store alters: every file is read as it was, or refused; never anything else."""
    altered = tmp_path_factory.mktemp("altered")
    raw = bytearray((sealed / "sealed" / "chunks").read_bytes())
    for place, change in flips:
        raw[place % len(raw)] ^= change
    (altered / "chunks").write_bytes(raw)
    (altered / "manifest.cose").write_bytes((sealed / "sealed" / "manifest.cose").read_bytes())
    same = raw == (sealed / "sealed" / "chunks").read_bytes()
    refused = 0
    with files_of(DirectoryStore(altered)) as files:
        for name, content in plain_files(sealed / "plain").items():
            try:
                assert files.read(name) == content
            except ArtifactError:
                refused += 1
    # The empty file's chunk is the one that nobody reads.
    last = read_manifest(sealed / "sealed").manifest.layout()
    unread = all(place % len(raw) >= last.ciphertext - 16 for place, _ in flips)
    assert refused > 0 or same or unread


@pytest.mark.parametrize("scheme", ["http://", "https://", "azblob:https://"])
@pytest.mark.parametrize(
    "rest",
    ["h:99999/x", "h:abc/x", "[::1/x", f"{'a' * 70}.b/x", "a..b/x", "h/\u00fc", "user@h/x", "/x", "h:0/x"],
)
def test_an_address_that_is_none_is_refused_before_anybody_is_asked(scheme: str, rest: str) -> None:
    with pytest.raises(StoreError, match="a store's address is"):
        store_at(f"{scheme}{rest}")
