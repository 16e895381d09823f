"""What the engine's benchmarks have in common: the shipped model, prompts, runs to the end."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from enclave.engine.embedded import EmbeddedEngine
from enclave.engine.interface import EngineOptions, Event, GenerationRequest, Sampling, TokenEvent
from enclave.files import DirectoryFiles

FAQ = Path(__file__).parents[1] / "models" / "faq"
MODEL = FAQ / "model"
ADAPTER = FAQ / "adapters" / "sailor"
VOCABULARY = 2048
GREEDY = Sampling(temperature=0.0)


def load(directory: Path = MODEL, **options: Any) -> EmbeddedEngine:
    """An engine on one thread, with room for everything that is measured unless `options` say otherwise."""
    wanted = {"kv_tokens": 65_536, "max_rows": 128, "max_waiting": 2048, "threads": 1, **options}
    return EmbeddedEngine.load(DirectoryFiles(directory), EngineOptions(**wanted))


def prompts(count: int, length: int = 32, seed: int = 0) -> list[tuple[int, ...]]:
    """Random prompts of one length."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY - 48, (count, length), generator=generator)
    return [tuple(row) for row in ids.tolist()]


def request(name: str, prompt: Sequence[int], tokens: int, **fields: Any) -> GenerationRequest:
    """A greedy request for exactly so many tokens."""
    fields = {"sampling": GREEDY, "eos": frozenset(), **fields}
    return GenerationRequest(id=name, prompt=tuple(prompt), max_tokens=tokens, **fields)


def drain(engine: EmbeddedEngine, each: Callable[[list[Event]], None] = lambda _: None) -> int:
    """Step until nothing is left; the number of steps."""
    steps = 0
    while engine.has_work():
        each(engine.step())
        steps += 1
    return steps


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor time of this process, all its threads: a shared machine disturbs it least."""
    start = time.process_time()
    work()
    return time.process_time() - start


def decode_step_ms(engine: EmbeddedEngine, requests: Sequence[GenerationRequest]) -> float:
    """Processor milliseconds of a step in which all of these decode; prompts are read before."""
    for one in requests:
        engine.submit(one)
    first: set[str] = set()
    while len(first) < len(requests):
        first |= {event.id for event in engine.step() if isinstance(event, TokenEvent)}
    steps = min(one.max_tokens for one in requests) // 2
    spent = cpu_seconds(lambda: [engine.step() for _ in range(steps)])
    for one in requests:
        engine.cancel(one.id)
    drain(engine)
    return 1000 * spent / steps


def save_longer_model(directory: Path, positions: int = 4096) -> Path:
    """The shipped model's shape with random weights and room for long prompts."""
    config = LlamaConfig.from_pretrained(MODEL)
    config.max_position_embeddings = positions
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory
