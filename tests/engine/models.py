"""Tiny models with random weights, saved as any Hugging Face directory is, and transformers' own answers."""

import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from enclave.engine.embedded import EmbeddedEngine
from enclave.engine.interface import EngineOptions, GenerationRequest, Sampling, TokenEvent
from enclave.files import DirectoryFiles

DEVICE = os.environ.get("CLOISTER_TEST_DEVICE", "cpu")
"""Where engines and references compute: `make test-gpu` says cuda."""
VOCABULARY = 97
CONTEXT = 128
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2}


def configs() -> dict[str, PreTrainedConfig]:
    """One configuration for each architecture that is tested, fresh each time."""
    return {
        "llama": LlamaConfig(**_GROUPED),
        "llama3-rope": LlamaConfig(
            **_GROUPED,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        ),
        "qwen2": Qwen2Config(**_GROUPED),
        "qwen3": Qwen3Config(**_GROUPED, head_dim=16),
        "mistral": MistralConfig(**_GROUPED, sliding_window=None),
        "mistral-window": MistralConfig(**_GROUPED, sliding_window=8),
        "gemma3": Gemma3TextConfig(
            **{**_GROUPED, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8}
        ),
        "gpt-neox": GPTNeoXConfig(**_SIZES),
    }


def save_model(config: PreTrainedConfig, directory: Path, seed: int = 0) -> Path:
    """A model of this configuration with random weights, in float32 safetensors."""
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    return directory


@cache
def reference(directory: Path) -> PreTrainedModel:
    """The same model, as transformers runs it."""
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval().to(DEVICE)


def expected(
    directory: Path, prompt: tuple[int, ...], max_tokens: int, model: Any = None, eos: int = 2
) -> list[int]:
    """What `generate` answers greedily, alone, without the end token."""
    model = model or reference(directory)
    ids = torch.tensor([prompt], device=model.device)
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=max_tokens,
        eos_token_id=eos,
        pad_token_id=0,
    )
    answer: list[int] = output[0, len(prompt) :].tolist()
    return answer[: answer.index(eos)] if eos in answer else answer


def request(name: str, prompt: tuple[int, ...], max_tokens: int = 12, **fields: Any) -> GenerationRequest:
    """A request that is greedy unless `sampling` says otherwise."""
    fields = {"sampling": Sampling(temperature=0.0), "eos": frozenset({2}), **fields}
    return GenerationRequest(id=name, prompt=prompt, max_tokens=max_tokens, **fields)


def load(directory: Path, **options: Any) -> EmbeddedEngine:
    return EmbeddedEngine.load(
        DirectoryFiles(directory),
        EngineOptions(**{"kv_tokens": 2048, "threads": 1, "device": DEVICE, **options}),
    )


def drain(engine: EmbeddedEngine) -> tuple[dict[str, list[int]], dict[str, TokenEvent]]:
    """Step until nothing is left: the tokens of each request, and its last event."""
    tokens: dict[str, list[int]] = {}
    ends: dict[str, TokenEvent] = {}
    while engine.has_work():
        collect(engine.step(), tokens, ends)
    return tokens, ends


def collect(events: list[TokenEvent], tokens: dict[str, list[int]], ends: dict[str, TokenEvent]) -> None:
    for event in events:
        assert event.id not in ends, "an event after the last one"
        if event.token is not None:
            tokens.setdefault(event.id, []).append(event.token)
        if event.finish is not None:
            ends[event.id] = event


def save_adapter(base: Path, directory: Path, seed: int, **settings: Any) -> Path:
    """A LoRA adapter with random weights for the model in `base`, as PEFT saves it."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], **settings}
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5.23 by a name that the latter is giving up.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        wrapped = get_peft_model(
            model, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **settings)
        )
    wrapped.save_pretrained(directory)
    return directory
