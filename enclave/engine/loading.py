"""A local Hugging Face directory to a model in memory: safetensors only, no remote code, no network.

Whatever is not understood is refused with the reason: pickled weights, code of the model's own, quantised
or missing or unexpected or NaN tensors.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from .interface import ModelRefused

_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})
# Rotary forms whose angles depend on a token's position alone. Others depend on the longest row of a batch.
_ROTARY = frozenset({"default", "linear", "yarn", "llama3"})
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(directory: Path, *, dtype: str, device: str) -> PreTrainedModel:
    """The causal language model in `directory`, in evaluation mode. Raises ModelRefused."""
    check_model_directory(directory)
    disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        _check_config(config)
        model, report = AutoModelForCausalLM.from_pretrained(
            directory,
            config=config,
            dtype=_DTYPES[dtype],
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, SafetensorError) as error:
        raise ModelRefused(f"{directory} does not load as a causal language model: {error}") from error
    _check_report(directory, report)
    _check_finite(directory, model)
    return model.to(device).eval().requires_grad_(False)


def check_model_directory(directory: Path) -> None:
    """Refuse a directory by its file names and config.json, before any weights are read."""
    if not directory.is_dir():
        raise ModelRefused(f"{directory} is not a directory: give a local model directory")
    refuse_pickles(directory)
    if (directory / "adapter_config.json").exists():
        raise ModelRefused(f"{directory} is an adapter: give its base model, then load it as an adapter")
    config = read_json(directory / "config.json")
    if "auto_map" in config:
        raise ModelRefused(
            f"{directory / 'config.json'} asks for code of its own (auto_map), which is never run: "
            "use a model whose architecture transformers contains, with auto_map removed"
        )
    if config.get("quantization_config") is not None:
        raise ModelRefused(f"{directory} holds quantised weights: give the unquantised safetensors")
    if not any(directory.glob("*.safetensors")):
        raise ModelRefused(f"{directory} holds no safetensors weights")


def refuse_pickles(directory: Path) -> None:
    """Raise ModelRefused if a file could hold pickled objects."""
    pickles = sorted(path.name for path in directory.iterdir() if path.suffix in _PICKLES)
    if pickles:
        raise ModelRefused(
            f"{directory} holds pickled files ({', '.join(pickles)}), which can run code when opened: "
            "convert the weights to safetensors and remove them"
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ModelRefused."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelRefused(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelRefused(f"{path} does not hold a JSON object")
    return value


def _check_config(config: Any) -> None:
    text = config.get_text_config()
    rotary = getattr(text, "rope_parameters", None) or {}
    per_layer = [value for value in rotary.values() if isinstance(value, dict)]
    for parameters in per_layer or [rotary]:
        form = parameters.get("rope_type", "default")
        if form not in _ROTARY:
            raise ModelRefused(f"rotary embeddings of type {form!r} differ with the batch: not supported")
    kinds = set(getattr(text, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        raise ModelRefused(f"layers of kind {', '.join(sorted(kinds))} are not supported")
    for name in ("max_position_embeddings", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        if not isinstance(getattr(text, name, None), int):
            raise ModelRefused(f"{type(config).__name__} has no {name}: the architecture is not supported")


def _check_report(directory: Path, report: dict[str, Any]) -> None:
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(name) for name in report.get(kind) or ())
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise ModelRefused(
                f"{directory} disagrees with its config.json: {kind.replace('_', ' ')} {shown}"
            )


def _check_finite(directory: Path, model: PreTrainedModel) -> None:
    for name, tensor in model.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelRefused(f"{directory}: tensor {name} holds NaN or infinity: the weights are damaged")
