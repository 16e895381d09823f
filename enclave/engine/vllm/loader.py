"""The load format "cloister": tensors from `ModelFiles` into a vLLM model one at a time, from no path.

vLLM calls `register` in each of its processes, by the entry point `vllm.general_plugins` of this package.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from vllm.config import ModelConfig
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

from ...files import ModelFiles
from ..interface import ModelRefused
from ..loading import weight_files
from ..tensors import Place, read_header
from .feeding import FedFiles

LOAD_FORMAT = "cloister"
SOURCES: dict[str, ModelFiles] = {}
"""What this process may load, by the socket's path; its children reach the same through the socket."""


def register() -> None:
    """Make the load format known to vLLM in this process. May be called again."""
    from vllm.model_executor.model_loader import _LOAD_FORMAT_TO_MODEL_LOADER as KNOWN

    if LOAD_FORMAT not in KNOWN:
        register_model_loader(LOAD_FORMAT)(StreamedLoader)


class StreamedLoader(BaseModelLoader):  # type: ignore[misc]
    """Loads what `model_loader_extra_config["socket"]` names. Raises ModelRefused, FilesError."""

    def download_model(self, model_config: ModelConfig) -> None:
        """Nothing is ever downloaded."""

    def load_weights(self, model: torch.nn.Module, model_config: ModelConfig) -> None:
        """Every tensor once; ModelRefused if the model misses one."""
        place = str(self.load_config.model_loader_extra_config["socket"])
        files = SOURCES.get(place) or FedFiles(Path(place))
        take: Any = model.load_weights
        loaded = take(stream(files))
        missing = {name for name, _ in model.named_parameters()} - set(loaded or ())
        if loaded is not None and missing:
            raise ModelRefused(f"{files.label} lacks tensors that the model needs: {sorted(missing)[:3]}")


def stream(files: ModelFiles) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors, in the order of their bytes. Each is ordinary memory that its taker frees."""
    for name in weight_files(files):
        for place in read_header(files, name):
            yield place.name, _tensor(files, name, place)


def overwrite(model: torch.nn.Module) -> float:
    """Zero every parameter and buffer; the largest magnitude that is left, which is 0."""
    left = 0.0
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
            left = max(left, float(tensor.abs().max()) if tensor.numel() else 0.0)
    return left


def _tensor(files: ModelFiles, name: str, place: Place) -> torch.Tensor:
    tensor = torch.empty(place.shape, dtype=place.dtype)
    if place.size:
        raw = tensor.reshape(-1).view(torch.uint8).numpy()
        files.fill(name, place.base + place.start, raw.data)
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise ModelRefused(f"{files.label}: tensor {place.name} holds NaN or infinity")
    return tensor
