"""Which directories are loaded, and what each refusal says."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma2Config, GPT2Config, LlamaConfig, MambaConfig

from enclave.engine.interface import ModelRefused
from enclave.engine.loading import load_model
from enclave.files import DirectoryFiles, FilesError
from enclave.model_files import model_root, used_files
from tests.engine.models import _GROUPED, drain, expected, load, request, save_model


@pytest.fixture
def copy(llama: Path, tmp_path: Path) -> Path:
    return shutil.copytree(llama, tmp_path / "model")


def _config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def test_an_untouched_copy_is_loaded(copy: Path) -> None:
    engine = load(copy)
    engine.submit(request("x", (5, 9, 33)))
    assert drain(engine)[1]["x"].finish in ("stop", "length")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "optimizer.pkl", "model.ckpt"])
def test_pickled_files_are_refused_by_name(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"")
    with pytest.raises(FilesError, match=rf"{name}.*convert"):
        load(copy)


def test_code_of_its_own_is_refused(copy: Path) -> None:
    _config(copy, auto_map={"AutoModelForCausalLM": "modeling.Model"})
    with pytest.raises(ModelRefused, match="auto_map"):
        load(copy)


def test_quantised_weights_are_refused(copy: Path) -> None:
    _config(copy, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ModelRefused, match="quantised"):
        load(copy)


def test_a_missing_tensor_is_refused(copy: Path) -> None:
    _tensors(copy, lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(ModelRefused, match=r"missing keys.*norm"):
        load(copy)


def test_an_unexpected_tensor_is_refused(copy: Path) -> None:
    _tensors(copy, lambda tensors: tensors.update({"model.extra.weight": torch.zeros(2)}))
    with pytest.raises(ModelRefused, match=r"unexpected keys.*extra"):
        load(copy)


def test_a_tensor_of_another_shape_is_refused(copy: Path) -> None:
    _tensors(copy, lambda tensors: tensors.update({"model.norm.weight": torch.ones(33)}))
    with pytest.raises(ModelRefused, match=r"mismatched keys.*norm"):
        load(copy)


def test_a_weight_that_is_not_a_number_is_refused(copy: Path) -> None:
    _tensors(copy, lambda tensors: tensors["model.norm.weight"].__setitem__(3, math.nan))
    with pytest.raises(ModelRefused, match=r"norm.weight holds NaN"):
        load(copy)


def test_damaged_files_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(ModelRefused):
        load(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(ModelRefused, match="JSON"):
        load(copy)


def test_an_unknown_architecture_is_refused(copy: Path) -> None:
    _config(copy, model_type="nobody-knows", architectures=["Nobody"])
    with pytest.raises(ModelRefused):
        load(copy)


def test_a_directory_without_weights_or_that_is_an_adapter_is_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(FilesError, match="cannot be read"):
        load(tmp_path / "absent")
    (copy / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelRefused, match="adapter"):
        load(copy)
    (copy / "adapter_config.json").unlink()
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelRefused, match="no safetensors"):
        load(copy)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Gemma2Config(**{**_GROUPED, "head_dim": 8}), "softcap"),
        (
            MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=8),
            "linear_attention|MambaConfig",
        ),
        (
            LlamaConfig(
                **_GROUPED, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
            ),
            "dynamic",
        ),
        (
            GPT2Config(
                vocab_size=97, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2
            ),
            None,
        ),
    ],
    ids=["softcap", "state-space", "dynamic-rope", "gpt2"],
)
def test_an_architecture_is_refused_by_name_or_computes_what_it_should(
    tmp_path: Path, config: object, reason: str | None
) -> None:
    directory = save_model(config, tmp_path)
    if reason is None:
        load(directory)
        return
    with pytest.raises(ModelRefused, match=reason):
        load(directory)


def test_bfloat16_is_computed_in_when_asked(llama: Path) -> None:
    engine = load(llama, dtype="bfloat16")
    engine.submit(request("x", (5, 9, 33), 5, eos=frozenset()))
    assert len(drain(engine)[0]["x"]) == 5


def test_an_index_names_the_files_and_they_are_loaded_as_one(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    names = sorted(tensors)
    halves = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: tensors[name] for name in part}, copy / file, metadata={"format": "pt"})
    (copy / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {name: file for file, part in halves.items() for name in part}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    engine = load(copy)
    engine.submit(request("x", (5, 9, 33)))
    assert drain(engine)[0]["x"] == expected(copy, (5, 9, 33), 12)
    (copy / "model-2.safetensors").unlink()
    with pytest.raises(ModelRefused, match="model-2"):
        load(copy)
    (copy / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelRefused, match="weight_map"):
        load(copy)


def test_weights_are_views_of_the_memory_that_was_read_into(llama: Path) -> None:
    loaded = load_model(DirectoryFiles(llama), dtype="float32", device="cpu")
    (memory,) = loaded.memory
    start = torch.frombuffer(memory.buffer, dtype=torch.uint8).data_ptr()
    for parameter in loaded.model.parameters():
        assert start <= parameter.data_ptr() < start + len(memory)
    assert loaded.kind == str(memory.kind)


def test_the_model_root_covers_every_file_that_is_used_and_no_other(copy: Path) -> None:
    root = model_root(copy)
    assert len(root) == 32
    (copy / "README.md").write_text("words")
    assert model_root(copy) == root
    assert {path.name for path in used_files(copy)} >= {"config.json", "model.safetensors"}
    (copy / "chat_template.jinja").write_text("x")
    with_template = model_root(copy)
    (copy / "chat_template.jinja").write_text("y")
    assert len({root, with_template, model_root(copy)}) == 3
    _tensors(copy, lambda tensors: tensors["model.norm.weight"].__setitem__(3, 0.5))
    assert model_root(copy) != with_template
