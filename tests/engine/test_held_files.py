"""Files read beforehand are the files, until they are erased."""

from pathlib import Path

import pytest

from enclave.engine.held_files import HeldFiles
from enclave.files import CHUNK, DirectoryFiles, FilesError


def test_what_is_held_is_what_was_there(tmp_path: Path) -> None:
    contents = {
        "config.json": b"{}",
        "model.safetensors": bytes(range(256)) * (CHUNK // 200),
        "tokenizer.json": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    held = HeldFiles(DirectoryFiles(tmp_path))
    assert dict(held.sizes) == {name: len(content) for name, content in contents.items()}
    for name, content in contents.items():
        assert held.read(name) == content
        assert b"".join(map(bytes, held.chunks(name))) == content
    part = bytearray(100)
    held.fill("model.safetensors", 300, memoryview(part))
    assert bytes(part) == contents["model.safetensors"][300:400]
    with pytest.raises(FilesError, match="ends before"):
        held.fill("config.json", 1, memoryview(part))
    with pytest.raises(FilesError, match="no file"):
        held.read("other")
    held.close()
    with pytest.raises(ValueError):
        held.read("config.json")


def test_a_file_that_went_away_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    files = DirectoryFiles(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FilesError):
        HeldFiles(files)


def test_more_than_fits_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    class Huge(DirectoryFiles):
        @property
        def sizes(self) -> dict[str, int]:
            return {"adapter_model.safetensors": 1 << 50}

    with pytest.raises(FilesError, match="at most 4294967296 are loaded"):
        HeldFiles(Huge(tmp_path))
