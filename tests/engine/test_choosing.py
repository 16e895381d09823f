"""Which engine the options name. vLLM itself is run by tests/vllm, in an environment that has it."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from enclave.engine.choosing import load
from enclave.engine.embedded import EmbeddedEngine
from enclave.engine.interface import EngineOptions, ModelRefused
from enclave.engine.vllm.engine import VllmEngine
from enclave.engine.vllm.options import VllmOptions
from enclave.files import DirectoryFiles
from tests.running import FAQ


def test_ours_unless_another_is_named() -> None:
    engine = load(DirectoryFiles(FAQ), EngineOptions(kv_tokens=512, threads=1))
    assert isinstance(engine, EmbeddedEngine)
    engine.erase()


@pytest.mark.parametrize(("device", "eager", "share"), [("cpu", True, 0.3), ("cuda", False, 0.9)])
def test_vllm_gets_the_same_bounds(
    device: str, eager: bool, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, VllmOptions]] = []
    monkeypatch.setattr(VllmEngine, "load", lambda files, options: asked.append((files, options)))
    options = EngineOptions(kind="vllm", device=device, max_rank=8, kv_tokens=1024)
    load(files := DirectoryFiles(FAQ), options)
    made = VllmOptions(engine=options, max_rank=8, eager=eager, memory_share=share)
    assert asked == [(files, made)]


def test_where_vllm_is_missing_the_model_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelRefused, match=r"not installed here.*docs/vllm\.md"):
        load(DirectoryFiles(FAQ), EngineOptions(kind="vllm"))


def test_there_are_no_others() -> None:
    with pytest.raises(ValueError, match="kind must be embedded or vllm"):
        EngineOptions(kind="other")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("device", "name", "kind"),
    [
        ("cpu", "cuda", "cuda"),  # a GPU that nothing vouches for, beside --tee without --gpu
        ("cuda", "cpu", "cpu"),
        ("cuda", "rocm", "cuda"),  # as vLLM calls AMD's
        ("cuda:1", "cuda", "cuda"),  # it would take the first
        ("cpu", "", ""),
    ],
)
def test_vllm_is_refused_before_it_has_anything_where_it_would_compute_elsewhere(
    device: str, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    platforms = ModuleType("vllm.platforms")
    names = {"device_name": name} if name else {}  # where vLLM knows no device, it has none
    vars(platforms)["current_platform"] = SimpleNamespace(device_type=kind, **names)
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)
    monkeypatch.setattr("os.environ", dict(os.environ))
    monkeypatch.setattr("enclave.engine.vllm.engine.Feeder", lambda *_: pytest.fail("it got files"))
    with pytest.raises(ModelRefused, match=f"not on {device}:"):
        load(DirectoryFiles(FAQ), EngineOptions(kind="vllm", device=device))
    assert not Path(os.environ["VLLM_CACHE_ROOT"]).parent.exists()


def test_vllm_on_the_device_that_is_named_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    platforms = ModuleType("vllm.platforms")
    vars(platforms)["current_platform"] = SimpleNamespace(device_name="cpu", device_type="cpu")
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)
    monkeypatch.setattr("os.environ", dict(os.environ))
    with pytest.raises(ModelRefused, match="not installed here"):  # of which there is no more here
        load(DirectoryFiles(FAQ), EngineOptions(kind="vllm"))
    assert os.environ["VLLM_LOGGING_LEVEL"] == "CRITICAL"  # as an error it logs what requests held
