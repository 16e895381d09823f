"""The engine that the options name: the embedded one, or vLLM where it is installed."""

from typing import Protocol

from enclave.files import ModelFiles

from .interface import Engine, EngineOptions, ModelRefused

CPU_SHARE = 0.3
GPU_SHARE = 0.9
"""The part of the memory, of the host or the GPU, that vLLM may plan with."""


class LoadedEngine(Engine, Protocol):
    """An engine that says where its weights are, and can overwrite them."""

    @property
    def weights_memory(self) -> str: ...

    def erase(self) -> None: ...


def load(files: ModelFiles, options: EngineOptions) -> LoadedEngine:
    """The engine over a model's files, in this process. Raises ModelRefused, FilesError."""
    if options.kind == "vllm":
        return _vllm(files, options)
    from .embedded import EmbeddedEngine

    return EmbeddedEngine.load(files, options)


def _vllm(files: ModelFiles, options: EngineOptions) -> LoadedEngine:
    from .vllm.engine import VllmEngine
    from .vllm.options import VllmOptions

    on_cpu = options.device == "cpu"
    share = CPU_SHARE if on_cpu else GPU_SHARE
    try:
        return VllmEngine.load(
            files,
            VllmOptions(engine=options, max_rank=options.max_rank, eager=on_cpu, memory_share=share),
        )
    except ModuleNotFoundError as error:
        raise ModelRefused(f"vLLM is not installed here ({error}); see docs/vllm.md") from error
