"""Which engine the options name. vLLM itself is run by tests/vllm, in an environment that has it."""

import sys
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
