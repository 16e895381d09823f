"""One thread owns the copies to a device: the CPU in the place of one, and a CUDA device if there is one."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from enclave.engine.interface import EngineError
from enclave.gpu import cuda
from enclave.gpu.cuda import Crossings, DeviceSilent, double_buffered


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_what_is_copied_there_comes_back_and_is_a_copy(device: str) -> None:
    with Crossings(device) as crossings:
        sent = torch.arange(1000, dtype=torch.float32)
        there = crossings.to_device(sent, torch.bfloat16).result()
        sent.zero_()
        assert there.dtype is torch.bfloat16 and there[3] == 3 and there.device.type == device
        assert crossings.to_host(there).result().device.type == "cpu"
        assert torch.equal(crossings.to_host(there).result(), there.cpu())


def test_bytes_of_any_size_come_back_unchanged(device: str) -> None:
    with Crossings(device) as crossings:
        for size in (1, 4095, 4096, 65_537, 1 << 20, (16 << 20) + 3):
            sent = torch.randint(0, 256, (size,), dtype=torch.uint8)
            assert torch.equal(crossings.to_host(crossings.to_device(sent).result()).result(), sent)


def test_nothing_is_converted_on_the_host(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crossed: list[tuple[str, torch.dtype]] = []
    genuine = torch.Tensor.to

    def to(tensor: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        done = genuine(tensor, *args, **options)
        crossed.append((tensor.device.type, done.dtype))
        return done

    with Crossings(device) as crossings:
        monkeypatch.setattr(torch.Tensor, "to", to)
        there = crossings.to_device(torch.ones(10), torch.bfloat16).result()
    assert there.dtype is torch.bfloat16
    assert crossed == [("cpu", torch.float32), (device, torch.bfloat16)]


def test_copies_are_made_in_order_on_one_thread_that_is_not_the_callers(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, str]] = []
    genuine = cuda._copied

    def copied(tensor: torch.Tensor, device: str, dtype: torch.dtype | None) -> torch.Tensor:
        seen.append((len(tensor), threading.current_thread().name))
        time.sleep(0.001)
        return genuine(tensor, device, dtype)

    with Crossings(device) as crossings:
        monkeypatch.setattr(cuda, "_copied", copied)
        futures = [crossings.to_device(torch.zeros(size)) for size in range(20)]
        assert [len(each.result()) for each in futures] == list(range(20))
    assert [size for size, _ in seen] == list(range(20))
    assert len({name for _, name in seen}) == 1 and threading.current_thread().name not in seen[0]


def test_a_device_that_returns_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_copied", lambda tensor, *_: torch.zeros_like(tensor))
    with pytest.raises(DeviceSilent, match="-srs 1") as silent:
        Crossings("cpu")
    assert isinstance(silent.value, EngineError)


def test_a_device_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(cuda, "_round_trip", lambda *_: release.wait(10))
    begin = time.monotonic()
    with pytest.raises(DeviceSilent):
        Crossings("cpu", probe_seconds=0.1)
    assert time.monotonic() - begin < 5
    release.set()


def test_a_device_that_this_torch_does_not_have_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(DeviceSilent):
        Crossings("cuda")


def test_a_buffer_is_filled_again_only_when_its_copy_is_done(device: str) -> None:
    with Crossings(device) as crossings:
        buffers = [torch.zeros(1 << 16), torch.zeros(1 << 16)]

        def fill(item: int, half: int) -> "cuda.Future[torch.Tensor]":
            buffers[half].fill_(item)
            return crossings.to_device(buffers[half])

        assert [int(each[-1]) for each in double_buffered(fill, 50)] == list(range(50))
        assert double_buffered(fill, 0) == []


@pytest.mark.parametrize("place", ["cpu:0", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_weights_reach_a_device_through_it(place: str, tmp_path: Path) -> None:
    """The loader's way for every device but "cpu"; "cpu:0" makes torch take the CPU for one."""
    from safetensors.torch import save_file

    from enclave.engine.tensors import load_tensors
    from enclave.files import DirectoryFiles

    weights = {f"w{n}": torch.randn(n + 1, 3) for n in range(5)} | {"ids": torch.arange(4)}
    save_file(weights, tmp_path / "model.safetensors")
    files = DirectoryFiles(tmp_path)
    loaded = load_tensors(files, ["model.safetensors"], dtype=torch.float32, device=place)
    assert loaded.memory is None and loaded.by_name.keys() == weights.keys()
    assert all(torch.equal(loaded.by_name[name].cpu(), tensor) for name, tensor in weights.items())
