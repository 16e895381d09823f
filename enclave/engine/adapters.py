"""LoRA adapters on one base model, by PEFT: any row of a batch may use another one, or none."""

import warnings
from typing import Any

import torch
from peft import LoraConfig, PeftModelForCausalLM, set_peft_model_state_dict
from transformers import PreTrainedModel

from ..files import FilesError, ModelFiles
from .interface import EngineError, EngineOptions, ModelRefused, UnknownAdapter
from .loading import read_json
from .plan import StepPlan
from .tensors import Tensors, load_tensors

_BASE = "__base__"
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


class AdapterSet:
    """Adapters by name. Inside PEFT each has a number for a name, so no name can collide with another."""

    def __init__(self, model: PreTrainedModel, options: EngineOptions) -> None:
        self._model = model
        self._limit = options.max_adapters
        self.resident = 0
        self._peft: PeftModelForCausalLM | None = None
        self._keys: dict[str, str] = {}
        self._loaded = 0

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._keys)

    def routing(self, plan: StepPlan) -> dict[str, Any]:
        """Arguments for `ForwardPass` that send each row through its own adapter; none if all are base."""
        if not any(plan.adapters):
            return {}
        keys = [_BASE if name is None else self._keys[name] for name in plan.adapters]
        return {"wrapped": self._peft, "adapter_names": keys}

    def load(self, name: str, files: ModelFiles) -> None:
        """Load a LoRA adapter under `name`.

        Raises ModelRefused for its files, EngineError for a name in use or one adapter too many.
        """
        if name in self._keys:
            raise EngineError(f"an adapter named {name!r} is loaded already: unload it first")
        if len(self._keys) >= self._limit:
            raise EngineError(f"{self._limit} adapters are loaded, the most that max_adapters allows")
        config = _read_config(files)
        read = _read_tensors(files, self._model.dtype)
        tensors = dict(read.by_name)
        self._check_shapes(tensors)
        key = f"n{self._loaded}"
        self._loaded += 1
        try:
            self._inject(key, config, tensors)
        except (ValueError, RuntimeError, KeyError, TypeError) as error:
            self._discard(key)
            raise ModelRefused(f"{files.label} does not fit this base model: {error}") from error
        self._keys[name] = key

    def unload(self, name: str) -> None:
        """Give up an adapter's weights. Raises UnknownAdapter."""
        if name not in self._keys:
            raise UnknownAdapter(f"no adapter named {name!r} is loaded")
        self._discard(self._keys.pop(name))

    def _inject(self, key: str, config: LoraConfig, tensors: dict[str, torch.Tensor]) -> None:
        if self._peft is None:
            with warnings.catch_warnings():
                # PEFT 0.21 asks transformers 5.23 by a name that the latter is giving up.
                warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
                self._peft = PeftModelForCausalLM(self._model, config, adapter_name=key)
        else:
            self._peft.add_adapter(key, config)
        made = {_plain_name(name, key) for name, _ in self._peft.named_parameters() if f".{key}." in name}
        if made != tensors.keys():
            raise ValueError("adapter_config.json and the tensors name different layers")
        set_peft_model_state_dict(self._peft, tensors, adapter_name=key)
        self._settle(self._peft, key)

    def _discard(self, key: str) -> None:
        if self._peft is None or key not in self._peft.peft_config:
            return
        others = [other for other in self._peft.peft_config if other != key]
        if others:
            self._settle(self._peft, others[0])
            self._peft.delete_adapter(key)
            self._settle(self._peft, others[0])
        else:
            self._peft.unload()
            self._peft = None

    @staticmethod
    def _settle(peft: PeftModelForCausalLM, key: str) -> None:
        """No layer has an active adapter: rows name theirs. PEFT's outer model insists on one that exists."""
        peft.set_adapter(key)
        peft.base_model.set_adapter([])
        peft.eval().requires_grad_(False)

    def _check_shapes(self, tensors: dict[str, torch.Tensor]) -> None:
        head = self._model.get_output_embeddings()
        for name, tensor in tensors.items():
            path, _, matrix = name.removeprefix(_PREFIX).rpartition(".lora_")
            module = self._base_module(path)
            if module is None or module is head or matrix not in ("A.weight", "B.weight"):
                raise ModelRefused(f"adapter tensor {name} fits no linear layer of the base model")
            axis, width = (1, module.in_features) if matrix == "A.weight" else (0, module.out_features)
            if tensor.ndim != 2 or tensor.shape[axis] != width:
                raise ModelRefused(
                    f"adapter tensor {name} has shape {tuple(tensor.shape)}, its layer needs {width}: "
                    "it was made for another base model"
                )
            if not bool(torch.isfinite(tensor).all()):
                raise ModelRefused(f"adapter tensor {name} holds NaN or infinity")

    def _base_module(self, path: str) -> torch.nn.Linear | None:
        try:
            module = self._model.get_submodule(path)
        except AttributeError:
            return None
        module = getattr(module, "base_layer", module)
        return module if isinstance(module, torch.nn.Linear) else None


def _plain_name(name: str, key: str) -> str:
    return name.replace(f".{key}.", ".")


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
        return LoraConfig(
            **{key: settings[key] for key in _USED if settings.get(key) is not None},
            task_type="CAUSAL_LM",
            inference_mode=True,
        )
    except (TypeError, ValueError) as error:
        raise ModelRefused(f"{files.label}: adapter_config.json is not valid: {error}") from error


def _read_tensors(files: ModelFiles, dtype: torch.dtype) -> Tensors:
    try:
        tensors = load_tensors(files, [_WEIGHTS], dtype=dtype)
    except FilesError as error:
        raise ModelRefused(str(error)) from error
    if not tensors.by_name:
        raise ModelRefused(f"{files.label}: {_WEIGHTS} holds no tensors")
    return tensors
