"""Weights live in secret memory where the kernel grants it, and the engine says which kind it is."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from enclave.engine.weights import keep_in_secret_memory
from enclave.files import DirectoryFiles
from enclave.memory import Kind, MemoryUnavailable, SecretMemory
from tests.engine.models import DEVICE, load, request


class Tied(nn.Module):
    """Two layers over one tensor, an odd size, a buffer, an empty parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(7, 3)
        self.two = nn.Linear(7, 3)
        self.two.weight = self.one.weight
        self.register_buffer("scale", torch.arange(5, dtype=torch.bfloat16))
        self.empty = nn.Parameter(torch.empty(0))


def granted(kind: Kind) -> None:
    try:
        SecretMemory(1 << 16, kinds=(kind,)).close()
    except MemoryUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("kind", [Kind.MEMFD_SECRET, Kind.LOCKED])
def test_values_move_unchanged_and_ties_stay(kind: Kind) -> None:
    granted(kind)
    model = Tied().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (memory,) = keep_in_secret_memory(model, (kind,))
    assert memory.kind == kind
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert model.one.weight.data_ptr() == model.two.weight.data_ptr()
    raw = bytes(memory.buffer)
    assert before["one.weight"].numpy().tobytes() in raw
    model.one.weight.zero_()
    assert before["one.weight"].numpy().tobytes() not in bytes(memory.buffer)  # a view, not a copy


def test_what_has_its_place_already_is_left_there_and_no_memory_is_an_error() -> None:
    model = Tied().requires_grad_(False)
    assert keep_in_secret_memory(model, beside=list(model.parameters())) == ()
    pointer = model.one.weight.data_ptr()
    with pytest.raises(MemoryUnavailable):
        keep_in_secret_memory(model, ())
    assert model.one.weight.data_ptr() == pointer


def test_an_engine_says_where_its_weights_are(model_directory: Callable[[str], Path]) -> None:
    known = ("memfd_secret", "locked", "unlocked") if DEVICE == "cpu" else ("device",)
    assert load(model_directory("llama")).weights_memory in known


def test_an_erased_engine_holds_no_weights_no_adapter_and_no_cache(
    llama: Path, adapters: dict[str, Path]
) -> None:
    engine = load(llama)
    engine.load_adapter("pirate", DirectoryFiles(adapters["pirate"]))
    engine.submit(request("x", (5, 9, 33), share=b"s" * 32, adapter="pirate"))
    engine.submit(request("y", (5, 9, 33, 60), 40, eos=frozenset()))
    engine.step()
    model, slots = engine._loaded.model, engine._adapters._slots
    assert slots is not None
    assert slots._store.any()
    assert not engine._arena.is_blank()
    engine.erase()
    assert not any(bool(tensor.any()) for tensor in model.parameters())
    assert not slots._store.any()
    assert engine._arena.is_blank()
    with pytest.raises(ValueError, match="closed"):
        _ = engine._adapters._key.buffer
