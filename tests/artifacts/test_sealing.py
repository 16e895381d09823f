"""Sealing a directory: what is kept, what is refused, and how it goes on after a crash or a full disk."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from client.artifacts import workplace
from client.artifacts.errors import DiskFull, KeyFileError, NotAsSealed, SourceRefused, TargetRefused
from client.artifacts.keys import new_data_key, new_owner_key, read_data_key, read_owner_key, read_signer
from client.artifacts.seal import seal
from client.artifacts.verify import read_manifest, verify
from enclave.model_files import model_root
from sealing.artifact import ChunkOpener, Kind, SignedManifest, key_commitment
from tests.artifacts.made import (
    DATA_KEY,
    OTHER,
    SMALL,
    make_model,
    order,
    plain_files,
    sealed_model,
    secret_for,
)
from tests.running import ROOT


def opened(directory: Path) -> dict[str, bytes]:
    """Every file of a sealed directory, decrypted."""
    signed = read_manifest(directory)
    opener = ChunkOpener(signed, secret_for(signed), now=0)
    raw, files = (directory / "chunks").read_bytes(), {}  # type: bytes, dict[str, bytearray]
    for chunk in signed.manifest.layout():
        plain = bytearray(chunk.size)
        opener.open_into(chunk, raw[chunk.offset : chunk.offset + chunk.length], plain)
        files.setdefault(chunk.path, bytearray()).extend(plain)
    return {path: bytes(content) for path, content in files.items()}


def run_ids(signed: SignedManifest) -> list[bytes]:
    return [run.id for run in signed.manifest.runs]


def test_a_model_comes_back_bit_for_bit(tmp_path: Path) -> None:
    done = sealed_model(tmp_path)
    assert opened(tmp_path / "sealed") == plain_files(tmp_path / "plain")
    assert done.left_out == ("README.md",)
    assert done.signed.manifest.root == model_root(tmp_path / "plain")
    assert verify(tmp_path / "sealed") == done.signed
    assert {path.name for path in (tmp_path / "sealed").iterdir()} == {"manifest.cose", "chunks", "leaves"}


def test_nothing_of_the_plaintext_stands_in_the_artifact(tmp_path: Path) -> None:
    sealed_model(tmp_path)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "sealed").iterdir())
    assert b"manifest" not in stored and b"config.json" in stored  # names show, and are found
    for name, content in plain_files(tmp_path / "plain").items():
        for start in range(0, len(content) - 8, 1021):
            window = content[start : start + 8]
            if len(set(window)) > 4:
                assert window not in stored, (name, start)


def test_documents_keep_their_directories(tmp_path: Path) -> None:
    (tmp_path / "plain" / "ward").mkdir(parents=True)
    (tmp_path / "plain" / "ward" / "a.txt").write_text("one")
    (tmp_path / "plain" / "b.bin").write_bytes(bytes(10_000))
    seal(order(tmp_path / "plain", kind=Kind.DOCUMENTS), tmp_path / "sealed")
    assert opened(tmp_path / "sealed") == {"b.bin": bytes(10_000), "ward/a.txt": b"one"}


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    plain = make_model(tmp_path / "plain")
    seal(order(plain), tmp_path / "sealed", lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[-1][0] == seen[-1][1] == sum(map(len, plain_files(plain).values()))


class Stopped(Exception):
    """Stands for a crash."""


def stop_at(chunk: int) -> Callable[[int, int], None]:
    left = [chunk]

    def progress(done: int, total: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Stopped

    return progress


def test_an_interrupted_sealing_goes_on_with_a_new_run(tmp_path: Path) -> None:
    plain, out = make_model(tmp_path / "plain"), tmp_path / "sealed"
    for chunk in (10, 30):
        with pytest.raises(Stopped):
            seal(order(plain), out, stop_at(chunk))
        with pytest.raises(NotAsSealed, match="not finished"):
            verify(out)
    kept = (out / "chunks").read_bytes()[: 29 * (SMALL + 16)]
    done = seal(order(plain), out)
    assert done.kept == 30
    assert [run.chunks for run in done.signed.manifest.runs[:2]] == [10, 20]
    assert len(set(run_ids(done.signed))) == 3
    assert (out / "chunks").read_bytes().startswith(kept[:1000])
    assert opened(out) == plain_files(plain)
    verify(out)


def test_a_crash_after_the_last_chunk_seals_nothing_again(tmp_path: Path) -> None:
    plain, out = make_model(tmp_path / "plain"), tmp_path / "sealed"
    total = order(plain) and sum(-(-len(raw) // SMALL) or 1 for raw in plain_files(plain).values())
    with pytest.raises(Stopped):
        seal(order(plain), out, stop_at(total))
    done = seal(order(plain), out)
    assert done.kept == total and len(done.signed.manifest.runs) == 1


@pytest.mark.parametrize("what", ["chunks", "leaves"])
def test_only_chunks_whose_hash_matches_are_kept(tmp_path: Path, what: str) -> None:
    plain, out = make_model(tmp_path / "plain"), tmp_path / "sealed"
    with pytest.raises(Stopped):
        seal(order(plain), out, stop_at(20))
    raw = bytearray((out / what).read_bytes())
    raw[5 * (32 if what == "leaves" else SMALL + 16) + 3] ^= 1
    (out / what).write_bytes(raw)
    done = seal(order(plain), out)
    assert 0 < done.kept <= 6 and opened(out) == plain_files(plain)


def test_chunks_of_changed_files_are_sealed_anew(tmp_path: Path) -> None:
    plain, out = make_model(tmp_path / "plain"), tmp_path / "sealed"
    with pytest.raises(Stopped):
        seal(order(plain), out, stop_at(20))
    weights = plain / "model-00001-of-00002.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[9 * SMALL] ^= 1
    times = weights.stat()
    weights.write_bytes(raw)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    done = seal(order(plain), out)
    assert 0 < done.kept < 20 and opened(out) == plain_files(plain)
    assert done.signed.manifest.root == model_root(plain)


def test_a_directory_of_other_sizes_begins_anew(tmp_path: Path) -> None:
    plain, out = make_model(tmp_path / "plain"), tmp_path / "sealed"
    with pytest.raises(Stopped):
        seal(order(plain), out, stop_at(20))
    (plain / "config.json").write_text("{}")
    assert seal(order(plain), out).kept == 0
    assert opened(out) == plain_files(plain)


def test_another_data_key_or_a_finished_artifact_is_refused(tmp_path: Path) -> None:
    plain, out = make_model(tmp_path / "plain"), tmp_path / "sealed"
    with pytest.raises(Stopped):
        seal(order(plain), out, stop_at(20))
    with pytest.raises(TargetRefused, match="another data key"):
        seal(order(plain, data_key=bytes(32)), out)
    seal(order(plain), out)
    with pytest.raises(TargetRefused, match="already"):
        seal(order(plain), out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(TargetRefused, match="not empty"):
        seal(order(plain), tmp_path / "full")
    assert (tmp_path / "full" / "letter.txt").read_text() == "mine"


def test_two_cannot_seal_to_one_place(tmp_path: Path) -> None:
    plain, out = make_model(tmp_path / "plain"), tmp_path / "sealed"

    def again(done: int, total: int) -> None:
        with pytest.raises(TargetRefused, match="another process"):
            seal(order(plain), out)
        raise Stopped

    with pytest.raises(Stopped):
        seal(order(plain), out, again)


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, out = make_model(tmp_path / "plain"), tmp_path / "sealed"
    write, room = os.pwrite, [100_000]

    def full(descriptor: int, content: memoryview, offset: int) -> int:
        room[0] -= len(content)
        if room[0] < 0:
            write(descriptor, content[: len(content) // 2], offset)  # a disk fills in the middle of a chunk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content, offset)

    with monkeypatch.context() as patch:
        patch.setattr(workplace.os, "pwrite", full)
        with pytest.raises(DiskFull, match=r"No space left.*kept"):
            seal(order(plain), out)
    done = seal(order(plain), out)
    assert done.kept > 15 and opened(out) == plain_files(plain)


def test_a_disk_too_small_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make_model(tmp_path / "plain")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 1000}))
    with pytest.raises(DiskFull, match="1000 bytes free"):
        seal(order(plain), tmp_path / "sealed")


def test_a_file_that_changes_while_it_is_sealed_is_refused(tmp_path: Path) -> None:
    plain = make_model(tmp_path / "plain")
    weights = plain / "model-00001-of-00002.safetensors"

    def grow(done: int, total: int) -> None:
        with weights.open("ab") as file:
            file.write(b"more")

    with pytest.raises(SourceRefused, match="longer"):
        seal(order(plain), tmp_path / "a", grow)
    size = weights.stat().st_size
    with pytest.raises(SourceRefused, match="shorter"):
        seal(order(plain), tmp_path / "b", lambda done, total: os.truncate(weights, size - 5))


def test_directories_that_cannot_be_sealed(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="cannot be read"):
        seal(order(tmp_path / "absent"), tmp_path / "sealed")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceRefused, match="no file of a model"):
        seal(order(tmp_path / "empty"), tmp_path / "sealed")
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(SourceRefused, match="no safetensors"):
        seal(order(tmp_path / "empty"), tmp_path / "sealed")


def test_a_new_version_keeps_the_id_and_shares_no_key(tmp_path: Path) -> None:
    first = sealed_model(tmp_path).signed
    second = seal(order(tmp_path / "plain", supersedes=first.manifest), tmp_path / "second").signed
    assert (second.manifest.id, second.manifest.version) == (first.manifest.id, 2)
    assert not set(run_ids(first)) & set(run_ids(second))
    assert (tmp_path / "second" / "chunks").read_bytes()[:64] != (
        tmp_path / "sealed" / "chunks"
    ).read_bytes()[:64]


# Verification without a key names the first thing that is wrong.


def alter(path: Path, place: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


def test_verification_names_the_chunk(tmp_path: Path) -> None:
    sealed_model(tmp_path)
    out = tmp_path / "sealed"
    place = read_manifest(out).manifest.layout().chunk(7)
    alter(out / "chunks", place.offset + 5)
    with pytest.raises(NotAsSealed, match=rf"chunk 7 \({place.path}\)"):
        verify(out)
    (out / "leaves").unlink()
    with pytest.raises(NotAsSealed, match="a chunk was altered"):
        verify(out)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda out: alter(out / "manifest.cose", 300), "manifest.cose"),
        (lambda out: alter(out / "leaves", 40), "leaves is missing or altered"),
        (lambda out: (out / "leaves").unlink(), "leaves is missing or altered"),
        (lambda out: (out / "manifest.cose").unlink(), "not a sealed artifact"),
        (lambda out: (out / "chunks").unlink(), "chunks: No such file"),
        (lambda out: os.truncate(out / "chunks", 40_000), r"chunk 10 .* cut off"),
        (lambda out: os.truncate(out / "chunks", 1 << 20), "chunks has 1048576 bytes"),
    ],
)
def test_verification_says_what_is_wrong(tmp_path: Path, harm: Callable[[Path], None], said: str) -> None:
    sealed_model(tmp_path)
    harm(tmp_path / "sealed")
    with pytest.raises(NotAsSealed, match=said):
        verify(tmp_path / "sealed")


# Keys.


def test_key_files(tmp_path: Path) -> None:
    for p384 in (False, True):
        path = tmp_path / f"owner{p384}.pem"
        signer = new_owner_key(path, p384=p384, passphrase=b"secret" if p384 else None)
        assert path.stat().st_mode & 0o777 == 0o600
        assert read_signer(Path(f"{path}.pub")) == signer
        read_owner_key(path, passphrase=b"secret" if p384 else None)
        with pytest.raises(KeyFileError, match="exists already"):
            new_owner_key(path)
    with pytest.raises(KeyFileError, match="CLOISTER_OWNER_PASSPHRASE"):
        read_owner_key(tmp_path / "ownerTrue.pem")
    with pytest.raises(KeyFileError, match="passphrase is wrong"):
        read_owner_key(tmp_path / "ownerTrue.pem", passphrase=b"wrong")
    assert read_signer(tmp_path / "ownerTrue.pem", passphrase=b"secret") == signer
    key = new_data_key(tmp_path / "data.key")
    assert read_data_key(tmp_path / "data.key") == key
    (tmp_path / "short").write_text(key.hex()[:-2])
    for path in (tmp_path / "short", tmp_path / "absent", tmp_path / "ownerTrue.pem"):
        with pytest.raises(KeyFileError) as refused:
            read_data_key(path)
        assert key.hex()[:8] not in str(refused.value)
    with pytest.raises(KeyFileError):
        read_owner_key(tmp_path / "data.key")
    assert OTHER is not None and key_commitment(key, bytes(16)) != key_commitment(DATA_KEY, bytes(16))


# kill -9 and memory, in processes of their own.


def command(plain: Path, out: Path, *options: str) -> list[str]:
    words = [sys.executable, "-m", "cloister", "seal", str(plain), "--out", str(out), *options]
    return [*words, "--owner", str(out.parent / "owner.pem"), "--data-key", str(out.parent / "data.key")]


def with_keys(directory: Path) -> Path:
    new_owner_key(directory / "owner.pem")
    (directory / "data.key").write_text(DATA_KEY.hex())
    return make_model(directory / "plain")


def finished_chunks(out: Path) -> int:
    return (out / "leaves").stat().st_size // 32 if (out / "leaves").exists() else 0


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_no_finished_chunk(tmp_path: Path) -> None:
    plain, out = with_keys(tmp_path), tmp_path / "sealed"
    (plain / "big.safetensors").write_bytes(random.Random(5).randbytes(60_000_000))
    kept = 0
    for _ in range(8):
        words = command(plain, out, "--chunk-size", str(SMALL))
        process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while finished_chunks(out) <= kept:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        time.sleep(random.Random(kept).random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert finished_chunks(out) >= kept
        kept = finished_chunks(out)
    done = seal(order(plain), out)
    assert done.kept >= kept - 1 and verify(out) == done.signed
    assert len(done.signed.manifest.runs) == 9
    assert opened(out)["big.safetensors"] == (plain / "big.safetensors").read_bytes()


@pytest.mark.slow
def test_sealing_needs_no_more_than_64_mb(tmp_path: Path) -> None:
    plain = with_keys(tmp_path)
    with (plain / "big.safetensors").open("wb") as file:
        file.truncate(400 * 1024 * 1024)
    # The kernel counts what a process had before it became another program, so a small one starts it.
    small = "import os, subprocess, sys; p = subprocess.Popen(sys.argv[1:], stdout=2)\n"
    small += "p.returncode, usage = os.wait4(p.pid, 0)[1:]; print(p.returncode, usage.ru_maxrss)"
    words = [sys.executable, "-S", "-c", small, *command(plain, tmp_path / "sealed")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    status, kib = map(int, done.stdout.split())
    assert status == 0 and kib * 1024 <= 64 * 1024 * 1024
