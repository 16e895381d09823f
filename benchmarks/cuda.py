"""A real CUDA device: copies through their thread, the engine beside a static batch, sealed answers.

Needs a CUDA device. Sections: copies, engine (the shipped model in float32), larger (0.7 billion random
weights in bfloat16), link (`cloister serve --insecure-gpu`, sealed clients, beside the engine in-process).
Times are wall; ratios are of things measured in turn.

    python -m benchmarks.cuda [--rounds N] [--json FILE] [--only SECTION ...]
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from attestation import Policy
from benchmarks.engine_work import MODEL, drain, load, prompts, request
from benchmarks.overhead import CLIENTS, TOKENS, sealed, together
from benchmarks.report import Figure, at_most, parser, publish
from client.sdk import AsyncClient
from enclave.gpu.cuda import Crossings

DEVICE = "cuda"
SIZES = (4 << 10, 64 << 10, 1 << 20, 16 << 20)
OUTSTANDING = 16
COUNTS = (1, 8, 32, 128)
PROMPT = 32
LARGE = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
}


def seconds(work: Callable[[], object]) -> float:
    """Wall time until the device has done it."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def ratio(ours: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The median of other's time over ours, in turn, and our median time."""
    ratios, times = [], []
    for _ in range(rounds):
        theirs, mine = seconds(other), seconds(ours)
        ratios.append(theirs / mine)
        times.append(mine)
    return statistics.median(ratios), statistics.median(times)


def copies(rounds: int) -> list[Figure]:
    """Copies that cross through their thread, over the same copies made by the caller, there and back."""
    figures = []
    with Crossings(DEVICE) as crossings:
        for size in SIZES:
            here = torch.randint(0, 256, (size,), dtype=torch.uint8)
            there = here.to(DEVICE)
            pinned = here.pin_memory()
            ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
                "to it": (lambda t=here: crossings.to_device(t), lambda t=here: t.to(DEVICE, copy=True)),
                "back": (lambda t=there: crossings.to_host(t), lambda t=there: t.to("cpu", copy=True)),
            }
            for name, (ours, plain) in ways.items():
                each, _ = ratio(lambda f=ours: f().result(), plain, 10 * rounds)
                many, took = ratio(partial(_crossed, ours), partial(_repeated, plain), 3 * rounds)
                figures += [
                    at_most(f"{size >> 10} KiB {name}: one, of a plain copy's speed", each, "ratio"),
                    at_most(f"{size >> 10} KiB {name}: {OUTSTANDING} asked for at once", many, "ratio"),
                    at_most(f"{size >> 10} KiB {name}: so many", OUTSTANDING * size / took / 1e9, "GB/s"),
                ]
            locked, _ = ratio(lambda p=pinned: p.to(DEVICE), lambda t=here: t.to(DEVICE), 10 * rounds)
            figures.append(at_most(f"{size >> 10} KiB: page-locked over pageable", locked, "ratio"))
    return figures


def _crossed(ask: Callable[[], Any]) -> None:
    for future in [ask() for _ in range(OUTSTANDING)]:
        future.result()


def _repeated(copy: Callable[[], object]) -> None:
    kept = []  # as the futures' results are: memory that is used again at once is much faster
    for _ in range(OUTSTANDING):
        kept.append(copy())
        torch.cuda.synchronize()


def static(directory: Path, dtype: torch.dtype) -> Callable[[int], None]:
    """transformers' `generate` in one static batch on the device."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval().to(DEVICE)

    def answer(count: int) -> None:
        ids = torch.tensor(prompts(count, PROMPT), device=DEVICE)
        limits = {"do_sample": False, "max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "pad_token_id": 0}
        with torch.inference_mode():
            model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **limits)

    return answer


def embedded(directory: Path, dtype: str) -> Callable[[int], None]:
    """Our engine on the device."""
    engine = load(directory, device=DEVICE, dtype=dtype)

    def answer(count: int) -> None:
        for row, prompt in enumerate(prompts(count, PROMPT)):
            engine.submit(request(str(row), prompt, TOKENS))
        drain(engine)

    return answer


def speed(directory: Path, dtype: str, rounds: int) -> list[Figure]:
    """Tokens a second at so many requests, and over the static batch."""
    ours, theirs = embedded(directory, dtype), static(directory, getattr(torch, dtype))
    figures = []
    for count in COUNTS:
        ours(count), theirs(count)
        over, took = ratio(partial(ours, count), partial(theirs, count), rounds)
        figures += [
            at_most(f"{count} requests, {dtype}: ours", count * TOKENS / took, "tokens/s"),
            at_most(f"{count} requests, {dtype}: over a static batch", over, "ratio"),
        ]
    return figures


@contextmanager
def large() -> Iterator[Path]:
    """A directory with 0.7 billion random weights under the shipped model's tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        config = LlamaConfig.from_pretrained(MODEL)
        for name, value in LARGE.items():
            setattr(config, name, value)
        torch.manual_seed(0)
        with torch.device(DEVICE):
            model = LlamaForCausalLM(config).to(torch.bfloat16)
        model.save_pretrained(folder)
        for path in MODEL.glob("tokenizer*"):
            (Path(folder) / path.name).write_bytes(path.read_bytes())
        del model
        torch.cuda.empty_cache()
        yield Path(folder)


def larger(rounds: int) -> list[Figure]:
    """`speed` of the larger model."""
    with large() as directory:
        start = time.perf_counter()
        load(directory, device=DEVICE, dtype="bfloat16")
        took = at_most("0.7 billion weights: loading from a disk", time.perf_counter() - start, "s")
        return [took, *speed(directory, "bfloat16", rounds)]


def link(rounds: int) -> list[Figure]:
    """Sealed answers of a worker whose simulated device computes there, over the engine by itself."""
    figures = behind(MODEL, "float32", rounds)
    with large() as directory:
        return figures + behind(directory, "bfloat16", rounds)


def behind(directory: Path, dtype: str, rounds: int) -> list[Figure]:
    """Tokens a second at so many clients, in all, and as a share of the engine's own at as many requests."""
    answer = embedded(directory, dtype)
    with worker(("--model", str(directory), "--engine", f"dtype={dtype}")) as (url, policy):
        return asyncio.run(_sealed(url, policy, answer, dtype, rounds))


async def _sealed(
    url: str, policy: Policy, answer: Callable[[int], None], dtype: str, rounds: int
) -> list[Figure]:
    figures = []
    async with AsyncClient(url, policy) as client:
        for clients in CLIENTS:
            rates, shares = [], []
            await together(sealed(client), clients)
            answer(clients)
            for _ in range(rounds):
                rate, _, _ = await together(sealed(client), clients)
                rates.append(rate)
                shares.append(rate / (clients * TOKENS / seconds(partial(answer, clients))))
            name = f"{clients} clients, {dtype}"
            figures += [
                at_most(f"{name}: tokens/s sealed", statistics.median(rates), "tokens/s"),
                at_most(f"{name}: share of the engine's own", statistics.median(shares), "ratio"),
            ]
    return figures


@contextmanager
def worker(options: Sequence[str]) -> Iterator[tuple[str, Policy]]:
    """`cloister serve --insecure-gpu`: its URL and the policy that pins it."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "worker.toml"
        command = [
            sys.executable,
            "-m",
            "cloister",
            "serve",
            "--insecure-gpu",
            "--port",
            "0",
            "--name",
            "faq",
        ]
        command += ["--write-policy", str(policy), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            lines = process.stdout or ()
            url = next((line.split()[-1] for line in lines if "listening on http" in line), None)
            if url is None:
                raise RuntimeError("the worker did not start: `cloister serve --insecure-gpu` says why")
            yield url, Policy.from_file(policy)
        finally:
            process.terminate()
            process.wait(20)
            if process.stdout is not None:
                process.stdout.close()


SECTIONS: dict[str, Callable[[int], list[Figure]]] = {
    "copies": copies,
    "engine": lambda rounds: speed(MODEL, "float32", rounds),
    "larger": larger,
    "link": link,
}


def main() -> None:
    """Measure and publish."""
    options: Any = parser(__doc__ or "", rounds=5)
    options.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    options = options.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device here")
    torch.set_num_threads(1)
    publish("cuda", [f for name in options.only for f in SECTIONS[name](options.rounds)], options.json)


if __name__ == "__main__":
    main()
