"""Sealed artifacts in Azure Blob Storage, against Azurite (npm install -g azurite, or set AZURITE)."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.artifacts.blob import upload
from client.artifacts.errors import OwnerError
from client.artifacts.seal import seal
from enclave.artifacts.blob import BlobStore
from enclave.artifacts.sealed_files import ArtifactError, SealedFiles, read_signed
from enclave.artifacts.stores import StoreError, store_at
from tests.artifacts.made import make_model, order, plain_files, secret_for

pytestmark = pytest.mark.slow

ACCOUNT = "devstoreaccount1"
# Azurite's own, public and the same everywhere.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty container, with a signature that may do everything."""
    program = os.environ.get("AZURITE") or shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not installed: npm install -g azurite, or set AZURITE to it")
    from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    place = tmp_path_factory.mktemp("azurite")
    words = [
        program,
        "--silent",
        "--disableTelemetry",
        "--skipApiVersionCheck",
        "--location",
        str(place),
        "--blobPort",
        str(port),
    ]
    process = subprocess.Popen([*words, "--blobHost", "127.0.0.1"], stdout=subprocess.DEVNULL)
    try:
        _wait(port, process)
        base = f"http://127.0.0.1:{port}/{ACCOUNT}"
        with BlobServiceClient(base, credential={"account_name": ACCOUNT, "account_key": KEY}) as service:
            service.create_container("models")
        permission = ContainerSasPermissions.from_string("rwlc")
        signature = generate_container_sas(
            ACCOUNT, "models", account_key=KEY, permission=permission, expiry="2100-01-01T00:00:00Z"
        )
        yield f"{base}/models/NAME?{signature}"
    finally:
        process.terminate()
        process.wait(20)


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, "azurite did not start"
            time.sleep(0.2)


def test_an_artifact_goes_to_blob_storage_and_comes_back(container: str, tmp_path: Path) -> None:
    plain = make_model(tmp_path / "plain")
    (plain / "big.safetensors").write_bytes(os.urandom(20_000_000))
    signed = seal(order(plain, chunk_size=1 << 20), tmp_path / "sealed").signed
    url = container.replace("NAME", "one")
    seen: list[int] = []
    upload(tmp_path / "sealed", url, lambda done, total: seen.append(done))
    assert seen == sorted(seen) and len(seen) == 3
    store = store_at(f"azblob:{url}")
    assert isinstance(store, BlobStore) and "sig=" not in store.label
    assert read_signed(store) == signed
    with SealedFiles(store, signed, secret_for(signed), 0) as files:
        for name, content in plain_files(plain).items():
            assert b"".join(bytes(piece) for piece in files.chunks(name)) == content


def test_what_was_staged_is_not_sent_again(container: str, tmp_path: Path) -> None:
    plain = make_model(tmp_path / "plain")
    (plain / "big.safetensors").write_bytes(os.urandom(20_000_000))
    seal(order(plain), tmp_path / "sealed")
    url = container.replace("NAME", "two")

    def stop(done: int, total: int) -> None:
        if done > 1 << 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload(tmp_path / "sealed", url, stop)
    with pytest.raises(StoreError, match="BlobNotFound"):
        store_at(f"azblob:{url}").manifest()
    chunks = (tmp_path / "sealed" / "chunks").read_bytes()
    (tmp_path / "sealed" / "chunks").write_bytes(
        bytes(1 << 20) + chunks[1 << 20 :]
    )  # the first block is there
    upload(tmp_path / "sealed", url)
    store = store_at(f"azblob:{url}")
    into = memoryview(bytearray(len(chunks)))
    store.read_into(0, into)
    assert into == chunks


def test_blobs_that_are_altered_missing_or_denied(container: str, tmp_path: Path) -> None:
    plain = make_model(tmp_path / "plain")
    signed = seal(order(plain), tmp_path / "sealed").signed
    url = container.replace("NAME", "three")
    raw = bytearray((tmp_path / "sealed" / "chunks").read_bytes())
    raw[30_000] ^= 1
    (tmp_path / "sealed" / "chunks").write_bytes(raw[:-1000])
    upload(tmp_path / "sealed", url)
    with SealedFiles(store_at(f"azblob:{url}"), signed, secret_for(signed), 0) as files:
        with pytest.raises(ArtifactError, match="chunk 8 "):
            files.read("model-00001-of-00002.safetensors")
        with pytest.raises(ArtifactError, match="cannot be read"):
            files.read("model-00002-of-00002.safetensors")
    denied = url[:-4] + "AAA%3D"
    with pytest.raises(StoreError, match=r"Authorization|Authentication"):
        store_at(f"azblob:{denied}").manifest()
    with pytest.raises(OwnerError, match="goes on from here"):
        upload(tmp_path / "sealed", denied)
