"""A model's files to a model in memory: safetensors only, no remote code, no network, no path.

Whatever is not understood is refused with the reason: code of the model's own, quantised
or missing or unexpected or NaN tensors.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from ..files import FilesError, ModelFiles
from ..memory import SecretMemory
from .interface import ModelRefused
from .tensors import Tensors, check_finite, load_tensors
from .weights import keep_in_secret_memory

_INDEX = "model.safetensors.index.json"
_WEIGHTS = "model.safetensors"
# Rotary forms whose angles depend on a token's position alone. Others depend on the longest row of a batch.
_ROTARY = frozenset({"default", "linear", "yarn", "llama3"})
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in evaluation mode, the memory that its tensors are views of, and what kind that is."""

    model: PreTrainedModel
    memory: tuple[SecretMemory, ...]
    kind: str

    def erase(self) -> None:
        """Overwrite the weights. The model is of no use afterwards."""
        for tensor in self.model.parameters():
            tensor.detach().zero_()
        for memory in self.memory:
            memory.close()


def load_model(files: ModelFiles, *, dtype: str, device: str) -> Loaded:
    """The causal language model in these files. Raises ModelRefused."""
    config = read_config(files, check_files(files))
    _check_config(config)
    return build(files, MODEL_FOR_CAUSAL_LM_MAPPING, config, dtype=dtype, device=device)


def build(
    files: ModelFiles,
    architectures: Mapping[type[PreTrainedConfig], Any],
    config: PreTrainedConfig,
    *,
    dtype: str,
    device: str,
    optional: tuple[str, ...] = (),
) -> Loaded:
    """The model of one of these `architectures` that `config` describes. Raises ModelRefused.

    Tensors named in `optional` may be missing or too many: nothing that is computed needs them.
    """
    if type(config) not in architectures:
        raise ModelRefused(f"{files.label} is a {config.model_type}, which is no architecture for this use")
    try:
        tensors = load_tensors(files, weight_files(files), dtype=DTYPES[dtype], device=device)
        check_finite(files, tensors.by_name)
        model = _assemble(
            files, architectures[type(config)], config, tensors, DTYPES[dtype], optional, device
        )
    except FilesError as error:
        raise ModelRefused(str(error)) from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise ModelRefused(f"{files.label} does not load as its config.json says: {error}") from error
    model = model.to(device).eval().requires_grad_(False)
    if tensors.memory is None:
        return Loaded(model, (), "device")
    rest = keep_in_secret_memory(model, beside=tensors.by_name.values())
    return Loaded(model, (tensors.memory, *rest), str(tensors.memory.kind))


def check_files(files: ModelFiles) -> dict[str, Any]:
    """Refuse files by their names and config.json, before any weights are read; config.json's settings."""
    if "adapter_config.json" in files.sizes:
        raise ModelRefused(f"{files.label} is an adapter: give its base model, then load it as an adapter")
    config: dict[str, Any] = read_json(files, "config.json")
    if "auto_map" in config:
        raise ModelRefused(
            f"{files.label}: config.json asks for code of its own (auto_map), which is never run: "
            "use a model whose architecture transformers contains, with auto_map removed"
        )
    if config.get("quantization_config") is not None:
        raise ModelRefused(f"{files.label} holds quantised weights: give the unquantised safetensors")
    return config


def read_json(files: ModelFiles, name: str, kind: type = dict) -> Any:
    """A JSON object from a file, or another `kind` of value. Raises ModelRefused."""
    try:
        value = json.loads(files.read(name))
    except (FilesError, ValueError, RecursionError) as error:
        raise ModelRefused(f"{files.label}: {name} cannot be read as JSON: {error}") from error
    if not isinstance(value, kind):
        raise ModelRefused(f"{files.label}: {name} does not hold a JSON {kind.__name__}")
    return value


def weight_files(files: ModelFiles) -> list[str]:
    """The files with the weights: those that the index names, or the one there is. Raises ModelRefused."""
    if _INDEX not in files.sizes:
        if _WEIGHTS not in files.sizes:
            raise ModelRefused(f"{files.label} holds no safetensors weights ({_WEIGHTS})")
        return [_WEIGHTS]
    listed = read_json(files, _INDEX).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(f, str) for f in listed.values()):
        raise ModelRefused(f"{files.label}: {_INDEX} has no weight_map of tensors to files")
    missing = sorted(set(listed.values()) - set(files.sizes))
    if missing:
        raise ModelRefused(f"{files.label}: {_INDEX} names files that are not here: {', '.join(missing[:3])}")
    return sorted(set(listed.values()))


def read_config(files: ModelFiles, settings: dict[str, Any]) -> PreTrainedConfig:
    """transformers' configuration object of config.json's settings. Raises ModelRefused."""
    kind = settings.get("model_type")
    if kind not in CONFIG_MAPPING:
        raise ModelRefused(f"{files.label}: config.json names no architecture of transformers ({kind!r})")
    try:
        return CONFIG_MAPPING[kind].from_dict(settings)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelRefused(f"{files.label}: config.json is not valid: {error}") from error


def _assemble(
    files: ModelFiles,
    architecture: Any,
    config: PreTrainedConfig,
    tensors: Tensors,
    dtype: torch.dtype,
    optional: tuple[str, ...],
    device: str,
) -> PreTrainedModel:
    """The model over these tensors, which stay where they are: without a map they would come back to the
    host.
    """
    transformers_logging.disable_progress_bar()
    model, report = architecture.from_pretrained(
        None,
        config=config,
        state_dict=dict(tensors.by_name),
        dtype=dtype,
        device_map=None if device == "cpu" else {"": device},
        ignore_mismatched_sizes=True,  # so that the report names them
        output_loading_info=True,
    )
    _check_report(files, report, optional)
    return model


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


def _check_report(files: ModelFiles, report: dict[str, Any], optional: tuple[str, ...]) -> None:
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(name) for name in report.get(kind) or () if name not in optional)
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise ModelRefused(
                f"{files.label} disagrees with its config.json: {kind.replace('_', ' ')} {shown}"
            )
