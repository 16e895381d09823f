"""A LoRA adapter's files, as PEFT saves them, to matrices per layer; what does not fit is refused by name."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists

from ..files import FilesError, ModelFiles
from ..memory import SecretMemory
from .interface import ModelRefused
from .loading import read_json
from .patterns import check_patterns, matches, named
from .tensors import check_finite, load_tensors

_PREFIX = "base_model.model."
_WEIGHTS = "adapter_model.safetensors"
_USED = frozenset(
    {
        "r",
        "lora_alpha",
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "fan_in_fan_out",
    }
)
# About training or about where files came from. Any other setting changes what the adapter computes, or may.
_IGNORED = frozenset(
    {
        "base_model_name_or_path",
        "ensure_weight_tying",
        "inference_mode",
        "lora_dropout",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "revision",
        "task_type",
    }
)
# Initialisations that leave the base weights as they are.
_HARMLESS_INIT = (True, False, None, "gaussian", "orthogonal")


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer that adapters can change: its path in the model, widths in and out."""

    path: str
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Matrices:
    """What one adapter adds to a layer: x @ down.T @ up, down [rank, inputs], up [rank, outputs], scaled."""

    down: torch.Tensor
    up: torch.Tensor


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """Matrices by the layer's path. `memory` holds the bytes of some and must outlive them."""

    matrices: Mapping[str, Matrices]
    rank: int
    memory: SecretMemory | None


def read_adapter(
    files: ModelFiles, layers: Mapping[str, Layer], *, dtype: torch.dtype, max_rank: int
) -> AdapterFiles:
    """An adapter for these layers in `dtype`, on the CPU. Raises ModelRefused."""
    config = _read_config(files)
    try:
        read = load_tensors(files, [_WEIGHTS], dtype=dtype)
    except FilesError as error:
        raise ModelRefused(str(error)) from error
    check_finite(files, read.by_name)
    found = {_checked(files, name, tensor, layers) for name, tensor in read.by_name.items()}
    targets = _targets(config, layers)
    if not found or found != {(path, matrix) for path in targets for matrix in ("A", "B")}:
        raise ModelRefused(
            f"{files.label} does not fit this base model: "
            "adapter_config.json and the tensors name different layers"
        )
    matrices = {path: _matrices(files, config, path, read.by_name, max_rank) for path in targets}
    return AdapterFiles(matrices, max(one.down.shape[0] for one in matrices.values()), read.memory)


def _read_config(files: ModelFiles) -> LoraConfig:
    settings = read_json(files, "adapter_config.json")
    if settings.get("peft_type") != "LORA":
        raise ModelRefused(f"{files.label} is not a LoRA adapter: peft_type is {settings.get('peft_type')!r}")
    if settings.pop("bias", "none") != "none":
        raise ModelRefused(f"{files.label} trains biases: only adapters with bias none are supported")
    if settings.pop("init_lora_weights", True) not in _HARMLESS_INIT:
        raise ModelRefused(
            f"{files.label} changes the base weights on loading: convert it to a plain LoRA first"
        )
    others = sorted(key for key, value in settings.items() if value and key not in _USED | _IGNORED)
    if others:
        raise ModelRefused(f"{files.label} uses {', '.join(others)}: only plain LoRA is supported")
    try:
        return _checked_config(
            LoraConfig(
                **{key: settings[key] for key in _USED if settings.get(key) is not None},
                task_type="CAUSAL_LM",
                inference_mode=True,
            )
        )
    except (TypeError, ValueError) as error:
        raise ModelRefused(f"{files.label}: adapter_config.json is not valid: {error}") from error


def _checked_config(config: LoraConfig) -> LoraConfig:
    for given in (config.target_modules, config.exclude_modules):
        check_patterns([given] if isinstance(given, str) else given or ())
    check_patterns([*config.rank_pattern, *config.alpha_pattern])
    parts = config.layers_pattern or ()
    if not all(re.fullmatch(r"\w+", part) for part in ([parts] if isinstance(parts, str) else parts)):
        raise ValueError("layers_pattern must be names of lists of layers")
    ranks = [config.r, *config.rank_pattern.values()]
    alphas = [config.lora_alpha, *config.alpha_pattern.values()]
    if not all(type(rank) is int and rank > 0 for rank in ranks):
        raise ValueError("r and rank_pattern must be whole numbers above 0")
    if not all(isinstance(alpha, int | float) and math.isfinite(alpha) for alpha in alphas):
        raise ValueError("lora_alpha and alpha_pattern must be numbers")
    return config


def _targets(config: LoraConfig, layers: Mapping[str, Layer]) -> set[str]:
    if config.target_modules == "all-linear":
        return set(layers)
    excluded, config.exclude_modules = config.exclude_modules or (), None
    left = [path for path in layers if not named(excluded, path)]
    if isinstance(config.target_modules, str):
        return {path for path in left if matches(config.target_modules, path)}
    return {path for path in left if check_target_module_exists(config, path)}


def _checked(
    files: ModelFiles, name: str, tensor: torch.Tensor, layers: Mapping[str, Layer]
) -> tuple[str, str]:
    """A tensor's layer and matrix, A or B."""
    path, _, matrix = name.removeprefix(_PREFIX).rpartition(".lora_")
    layer = layers.get(path)
    if layer is None or matrix not in ("A.weight", "B.weight") or not name.startswith(_PREFIX):
        raise ModelRefused(f"{files.label}: adapter tensor {name} fits no linear layer of the base model")
    axis, width = (1, layer.inputs) if matrix == "A.weight" else (0, layer.outputs)
    if tensor.ndim != 2 or tensor.shape[axis] != width:
        raise ModelRefused(
            f"{files.label}: adapter tensor {name} has shape {tuple(tensor.shape)}, its layer needs {width}: "
            "it was made for another base model"
        )
    if not tensor.is_floating_point():
        raise ModelRefused(f"{files.label}: adapter tensor {name} is of {tensor.dtype}, not of a float type")
    return path, matrix[0]


def _matrices(
    files: ModelFiles, config: LoraConfig, path: str, tensors: Mapping[str, torch.Tensor], max_rank: int
) -> Matrices:
    down, up = (tensors[f"{_PREFIX}{path}.lora_{matrix}.weight"] for matrix in "AB")
    rank = _pattern(config.rank_pattern, path, config.r)
    if down.shape[0] != rank or up.shape[1] != rank:
        raise ModelRefused(
            f"{files.label} does not fit its adapter_config.json: {path} has rank {down.shape[0]}, not {rank}"
        )
    if rank > max_rank:
        raise ModelRefused(f"{files.label}: {path} has rank {rank}, more than max_rank {max_rank}")
    alpha = _pattern(config.alpha_pattern, path, config.lora_alpha)
    scale = alpha / (math.sqrt(rank) if config.use_rslora else rank)
    return Matrices(down, up.t() * scale)


def _pattern(pattern: dict[str, Any], path: str, default: Any) -> Any:
    found = next((key for key in pattern if matches(rf"(.*\.)?({key})", path)), path)
    return pattern.get(found, default)
