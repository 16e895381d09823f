"""How vLLM is set up: the engine's own bounds, and how many devices it runs over."""

from dataclasses import dataclass
from typing import Literal

from ..interface import EngineOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmOptions:
    """`engine` bounds memory, steps and queue as for the embedded engine. Raises ValueError.

    `tensor_parallel` and `pipeline_parallel` spread one model over so many devices; `executor` is vLLM's:
    "uni" runs in this process, "mp" in one process a device, "ray" under Ray. `eager` does without CUDA
    graphs and compilation. `max_rank` bounds the rank of adapters, `memory_share` the part of the device's
    memory (of the host's, on a CPU) that vLLM may plan with.
    """

    engine: EngineOptions
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    executor: Literal["uni", "mp", "ray"] = "uni"
    eager: bool = False
    max_rank: int = 64
    memory_share: float = 0.9

    def __post_init__(self) -> None:
        if self.tensor_parallel < 1 or self.pipeline_parallel < 1 or self.max_rank < 1:
            raise ValueError("tensor_parallel, pipeline_parallel and max_rank must be 1 or more")
        if not 0.0 < self.memory_share <= 1.0:
            raise ValueError("memory_share must be above 0 and at most 1")
        if self.executor not in ("uni", "mp", "ray"):
            raise ValueError("executor must be uni, mp or ray")
        if self.executor == "uni" and self.tensor_parallel * self.pipeline_parallel > 1:
            raise ValueError("several devices need executor mp or ray")
