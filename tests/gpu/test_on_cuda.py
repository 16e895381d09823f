"""The engine on a real CUDA device answers as it does on the CPU, and keeps there what belongs there."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch

from enclave.engine import loading
from enclave.engine.embedded import EmbeddedEngine
from enclave.engine.grammar import schema_grammar
from enclave.engine.interface import ModelRefused, Sampling
from enclave.engine.loading import load_model
from enclave.engine.tensors import Tensors
from enclave.files import DirectoryFiles
from enclave.text import TextModel
from tests.engine.models import drain, load, request
from tests.running import FAQ

pytestmark = pytest.mark.gpu

SAILOR = FAQ.parent / "adapters" / "sailor"
SHARE = b"s" * 32
ROWS = 32
ABOUT = ["attestation", "a measurement", "a nonce", "HPKE", "a TEE", "the operator", "a receipt", "a policy"]
GRAMMAR = schema_grammar(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)


def engine_on(device: str, **options: Any) -> EmbeddedEngine:
    engine = load(FAQ, **{"device": device, "kv_tokens": 16_384, **options})
    engine.load_adapter("voice", DirectoryFiles(SAILOR))
    return engine


@pytest.fixture(scope="module")
def cuda() -> Iterator[EmbeddedEngine]:
    yield engine_on("cuda")


@pytest.fixture(scope="module")
def cpu() -> Iterator[EmbeddedEngine]:
    yield engine_on("cpu")


def prompts() -> list[tuple[int, ...]]:
    text = TextModel(FAQ)
    asked = [f"{words} {about}?" for words in ("What is", "Tell me about") for about in ABOUT]
    return [text.chat([{"role": "user", "content": question}]) for question in asked]


def answers(engine: EmbeddedEngine, **fields: Any) -> dict[str, list[int]]:
    """32 requests at once, half of them through the adapter."""
    for row in range(ROWS):
        asked = prompts()[row // 2]
        engine.submit(request(str(row), asked, 60, adapter="voice" if row % 2 else None, **fields))
    tokens, ends = drain(engine)
    assert {end.finish for end in ends.values()} <= {"stop", "length"}
    return tokens


def test_a_batch_of_base_and_adapter_rows_answers_as_on_the_cpu(
    cuda: EmbeddedEngine, cpu: EmbeddedEngine
) -> None:
    found = answers(cuda)
    assert len(found) == ROWS and found == answers(cpu)
    assert found["0"] != found["1"]


def test_a_row_alone_answers_as_in_the_batch(cuda: EmbeddedEngine) -> None:
    together = answers(cuda)
    for row in (0, 1, 17):
        cuda.submit(request("alone", prompts()[row // 2], 60, adapter="voice" if row % 2 else None))
        assert drain(cuda)[0]["alone"] == together[str(row)]


def test_masks_hold_there_as_on_the_cpu(cuda: EmbeddedEngine, cpu: EmbeddedEngine) -> None:
    found = answers(cuda, grammar=GRAMMAR)
    assert found == answers(cpu, grammar=GRAMMAR)


def test_draws_of_one_seed_repeat_there(cuda: EmbeddedEngine) -> None:
    wild = Sampling(temperature=1.2, top_p=0.9, top_k=40, seed=7, presence_penalty=0.5)
    assert answers(cuda, sampling=wild) == answers(cuda, sampling=wild)


def test_a_shared_beginning_is_read_once_and_changes_no_answer() -> None:
    cuda, asked = engine_on("cuda", block_tokens=4), prompts()[0]
    cuda.submit(request("first", asked, 40, share=SHARE))
    first = drain(cuda)[0]["first"]
    before = cuda.stats().prefix_tokens
    cuda.submit(request("second", asked, 40, share=SHARE))
    assert drain(cuda)[0]["second"] == first
    assert cuda.stats().prefix_tokens > before


def test_weights_stay_where_they_were_put(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's tensors are those that crossed: none came back to the host on its way into the model."""
    seen: dict[str, torch.Tensor] = {}
    genuine = loading.load_tensors

    def load_tensors(*args: Any, **options: Any) -> Tensors:
        tensors = genuine(*args, **options)
        seen.update(tensors.by_name)
        return tensors

    monkeypatch.setattr(loading, "load_tensors", load_tensors)
    loaded = load_model(DirectoryFiles(FAQ), dtype="float32", device="cuda")
    assert loaded.kind == "device" and loaded.memory == ()
    put = {tensor.data_ptr() for tensor in seen.values()}
    assert {parameter.data_ptr() for parameter in loaded.model.parameters()} <= put
    held: Mapping[str, torch.Tensor] = dict(loaded.model.named_buffers())
    assert {tensor.device.type for tensor in held.values()} <= {"cuda"}


def test_what_is_erased_is_gone_from_the_device(cuda: EmbeddedEngine) -> None:
    engine = engine_on("cuda")
    engine.submit(request("x", prompts()[0], 40, adapter="voice", share=SHARE))
    engine.step()
    model, slots = engine._loaded.model, engine._adapters._slots
    assert slots is not None and slots._store.is_cuda and slots._store.any()
    assert not engine._arena.is_blank()
    engine.erase()
    assert not any(bool(tensor.any()) for tensor in model.parameters())
    assert not slots._store.any() and engine._arena.is_blank()
    assert answers(cuda)


def test_more_memory_than_the_device_has_is_refused_with_what_to_do() -> None:
    with pytest.raises(ModelRefused, match="lower kv_tokens"):
        load(FAQ, device="cuda", kv_tokens=2**34)
    assert drain_one(load(FAQ, device="cuda"))


def drain_one(engine: EmbeddedEngine) -> list[int]:
    engine.submit(request("x", prompts()[0], 4))
    return drain(engine)[0]["x"]
