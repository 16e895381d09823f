"""vLLM's engine arguments for our options."""

from pathlib import Path
from typing import Any

from vllm.engine.arg_utils import EngineArgs

from .loader import LOAD_FORMAT
from .options import VllmOptions

_BLOCK = 32
"""Tokens: every attention backend of vLLM takes blocks of a multiple of these."""


def engine_args(directory: Path, socket: Path, options: VllmOptions) -> EngineArgs:
    """Arguments for the model whose small files are in `directory` and whose weights `socket` serves."""
    engine = options.engine
    block = -(-engine.block_tokens // _BLOCK) * _BLOCK
    adapters: dict[str, Any] = {}
    if engine.max_adapters:
        # None is ever dropped from the host's memory: the files that it came from are gone.
        adapters = {
            "enable_lora": True,
            "max_loras": min(engine.max_adapters, 8),
            "max_cpu_loras": max(engine.max_adapters, 8),
            "max_lora_rank": options.max_rank,
        }
    return EngineArgs(
        model=str(directory),
        load_format=LOAD_FORMAT,
        model_loader_extra_config={"socket": str(socket)},
        skip_tokenizer_init=not (directory / "tokenizer.json").is_file(),
        trust_remote_code=False,
        dtype=engine.dtype,
        max_model_len=_context(directory, engine.kv_tokens),
        block_size=block,
        num_gpu_blocks_override=engine.kv_tokens // block + 1,  # vLLM keeps one to itself
        max_num_batched_tokens=engine.step_tokens,
        max_num_seqs=engine.max_rows,
        gpu_memory_utilization=options.memory_share,
        enable_chunked_prefill=True,
        enable_prefix_caching=True,
        scheduling_policy="priority",
        structured_outputs_config={"backend": "guidance"},
        tensor_parallel_size=options.tensor_parallel,
        pipeline_parallel_size=options.pipeline_parallel,
        distributed_executor_backend=options.executor,
        enforce_eager=options.eager,
        disable_log_stats=True,
        **adapters,
    )


def _context(directory: Path, kv_tokens: int) -> int:
    """The model's own context, as far as key-value memory holds it."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(directory, local_files_only=True).get_text_config()
    return min(int(config.max_position_embeddings), kv_tokens)
