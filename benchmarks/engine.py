"""The engine beside transformers' own generation: same model, same threads, in turn, by processor time.

Sections: speed (against a static batch and continuous batching, with memory), interference of a long prompt,
shares of premium, adapters, masks, prefix blocks, load (four profiles, sealed and plain).

    python -m benchmarks.engine [--rounds N] [--json FILE] [--only SECTION ...]
"""

import asyncio
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

from benchmarks import engine_adapters, engine_load, engine_shares
from benchmarks.engine_work import MODEL, cpu_seconds, drain, load, prompts, request
from benchmarks.report import Figure, at_least, at_most, parser, publish

COUNTS = (1, 8, 32, 128)
TOKENS = 64
PROMPT = 32


def ours() -> Callable[[int], None]:
    """Our engine, answering so many requests."""
    engine = load(kv_tokens=32 * 1024)

    def answer(count: int) -> None:
        for row, prompt in enumerate(prompts(count, PROMPT)):
            engine.submit(request(str(row), prompt, TOKENS))
        drain(engine)

    return answer


def static() -> Callable[[int], None]:
    """transformers' `generate` in one static batch."""
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()

    def answer(count: int) -> None:
        ids = torch.tensor(prompts(count, PROMPT))
        with torch.inference_mode():
            found = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=TOKENS,
                min_new_tokens=TOKENS,
                pad_token_id=0,
            )
        assert found.shape == (count, PROMPT + TOKENS)

    return answer


def continuous() -> Callable[[int], None]:
    """transformers' continuous batching, with its memory bounded as ours is."""
    model = AutoModelForCausalLM.from_pretrained(
        MODEL, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    bounds = ContinuousBatchingConfig(
        page_size=32, num_blocks=1024, max_batch_tokens=512, use_cuda_graph=False, use_async_batching=False
    )
    greedy = GenerationConfig(do_sample=False, max_new_tokens=TOKENS, eos_token_id=-1, pad_token_id=0)

    def answer(count: int) -> None:
        inputs = [list(prompt) for prompt in prompts(count, PROMPT)]
        found = model.generate_batch(inputs, generation_config=greedy, continuous_batching_config=bounds)
        assert all(len(one.generated_tokens) == TOKENS for one in found.values())
        assert len(found) == count

    return answer


SYSTEMS = {"ours": ours, "static": static, "continuous": continuous}


def speed(rounds: int) -> list[Figure]:
    """Tokens a second of the three in turn; the ratio of medians within the rounds."""
    systems = {name: make() for name, make in SYSTEMS.items()}
    figures = []
    for answer in systems.values():
        answer(2)
    for count in COUNTS:
        ratios: dict[str, list[float]] = {name: [] for name in systems}
        for _ in range(rounds):
            rates = {
                name: count * TOKENS / cpu_seconds(partial(answer, count)) for name, answer in systems.items()
            }
            for name, rate in rates.items():
                ratios[name].append(rates["ours"] / rate if name != "ours" else rate)
        median = {name: statistics.median(values) for name, values in ratios.items()}
        goal = 0.8 if count == 32 else None
        figures += [
            at_most(f"{count} requests: ours", median["ours"], "tokens/s"),
            _ratio(f"{count} requests: ours over a static batch", median["static"], goal),
            _ratio(f"{count} requests: ours over continuous batching", median["continuous"], 2.0),
        ]
    return figures + [at_most(f"memory for 32, {name}", memory(name), "MB") for name in SYSTEMS]


def _ratio(name: str, value: float, goal: float | None) -> Figure:
    return at_most(name, value, "ratio") if goal is None else at_least(name, value, "ratio", goal)


def memory(name: str) -> float:
    """What the resident set grows by, at its peak, when a fresh process loads and answers 32 requests."""
    program = (
        "import torch; torch.set_num_threads(1)\n"
        "from benchmarks import engine\n"
        f"before = engine.peak(); engine.SYSTEMS[{name!r}]()(32); print(engine.peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024


def peak() -> int:
    """The largest resident set of this process so far, in KiB. The kernel counts it from exec on."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


SECTIONS: dict[str, Callable[[int], list[Figure]]] = {
    "speed": speed,
    "interference": engine_shares.interference,
    "shares": engine_shares.shares,
    "prefixes": engine_shares.prefixes,
    "adapters": engine_adapters.adapters,
    "masks": engine_adapters.masks,
    "load": lambda rounds: asyncio.run(engine_load.profiles(rounds)),
}


def main() -> None:
    """Measure and publish."""
    options: Any = parser(__doc__ or "", rounds=5)
    options.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    options = options.parse_args()
    torch.set_num_threads(1)
    figures = [figure for name in options.only for figure in SECTIONS[name](options.rounds)]
    publish("engine", figures, options.json)


if __name__ == "__main__":
    main()
