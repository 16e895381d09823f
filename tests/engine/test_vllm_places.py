"""What vLLM is handed without vLLM: weights over a socket, small files in memory."""

import json
import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.engine.interface import EngineOptions, ModelRefused
from enclave.engine.vllm.feeding import FedFiles, Feeder
from enclave.engine.vllm.options import VllmOptions
from enclave.engine.vllm.places import MemoryPlace
from enclave.files import DirectoryFiles, FilesError
from tests.running import FAQ


def test_fed_files_are_the_files(tmp_path: Path) -> None:
    files = DirectoryFiles(FAQ)
    feeder = Feeder(files, tmp_path / "weights")
    one, two = FedFiles(tmp_path / "weights"), FedFiles(tmp_path / "weights")
    assert dict(one.sizes) == dict(files.sizes)
    assert one.read("config.json") == files.read("config.json")
    whole = files.read("model.safetensors")
    assert b"".join(bytes(piece) for piece in two.chunks("model.safetensors")) == whole
    into = bytearray(1000)
    one.fill("model.safetensors", 12_345, memoryview(into))
    assert into == whole[12_345:13_345]
    for reader in (one, two):
        reader.close()
    feeder.close()


def test_what_is_not_there_ends_the_connection_and_no_other(tmp_path: Path) -> None:
    feeder = Feeder(DirectoryFiles(FAQ), tmp_path / "weights")
    for name, offset in (("../config.json", 0), ("nothing", 0), ("config.json", 10**9)):
        reader = FedFiles(tmp_path / "weights")
        with pytest.raises(FilesError):
            reader.fill(name, offset, memoryview(bytearray(10)))
        reader.close()
    reader = FedFiles(tmp_path / "weights")
    assert reader.read("config.json")
    reader.close()
    feeder.close()
    with pytest.raises(FilesError):
        FedFiles(tmp_path / "nowhere")


@settings(max_examples=40, deadline=None)
@given(raw=st.binary(max_size=200) | st.dictionaries(st.text(max_size=8), st.integers()).map(
    lambda value: len(json.dumps(value)).to_bytes(4, "big") + json.dumps(value).encode()
))  # fmt: skip
def test_garbage_ends_its_own_connection(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("feed") / "w"
    feeder = Feeder(DirectoryFiles(FAQ), place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
        stranger.connect(str(place))
        stranger.sendall(raw)
        stranger.shutdown(socket.SHUT_WR)
        assert stranger.recv(10) == b""
    reader = FedFiles(place)
    assert reader.sizes
    reader.close()
    feeder.close()


def test_small_files_lie_in_memory_for_this_user_alone_and_go() -> None:
    with MemoryPlace() as place:
        put = place.put(DirectoryFiles(FAQ), ["config.json"])
        assert (put / "config.json").read_bytes() == (FAQ / "config.json").read_bytes()
        assert stat.S_IMODE(os.stat(put).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(put / "config.json").st_mode) == 0o600
        with pytest.raises(FileExistsError):
            place.put(DirectoryFiles(FAQ), ["config.json"])
    assert not put.exists()
    place.remove()


def test_a_disk_is_refused() -> None:
    with pytest.raises(ModelRefused, match="tmpfs"):
        MemoryPlace(FAQ)
    with pytest.raises(ModelRefused, match="tmpfs"):
        MemoryPlace(Path("/nowhere"))


@pytest.mark.parametrize(
    "fields",
    [
        {"tensor_parallel": 2},
        {"tensor_parallel": 0, "executor": "mp"},
        {"executor": "other"},
        {"max_rank": 0},
        {"memory_share": 0.0},
        {"memory_share": float("nan")},
    ],
)
def test_options_that_contradict_each_other_are_refused(fields: dict) -> None:
    with pytest.raises(ValueError):
        VllmOptions(engine=EngineOptions(), **fields)
