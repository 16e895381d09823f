"""What the sealed channel costs: the same engine through the channel and in plaintext, interleaved.

One server process has both sides: the gateway on one port, its API app in plaintext on another, the same
engine and event loop behind them (benchmarks/both_ports.py). Times are wall; ratios are within one run.

    python -m benchmarks.overhead [--rounds N] [--json FILE] [--model DIRECTORY] [--engine NAME=VALUE ...]
"""

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from attestation import Policy
from benchmarks.both_ports import MODEL
from benchmarks.report import Figure, at_least, at_most, parser, publish
from client.events import event_data
from client.sdk import AsyncClient
from client.wire import HttpWire, WireResponse

QUESTION = "What is remote attestation?"
TOKENS = 64
CLIENTS = (1, 8, 32)
BODY = {
    "model": "faq",
    "messages": [{"role": "user", "content": QUESTION}],
    "temperature": 1.5,
    "seed": 11,
    "max_tokens": TOKENS,
    "stream": True,
    "stream_options": {"include_usage": True},
}


@dataclass(frozen=True, slots=True)
class Run:
    """One streamed answer: seconds to its first text, seconds in all, tokens."""

    first: float
    total: float
    tokens: int


Ask = Callable[[], Awaitable[Run]]


async def measure(pieces: Callable[[], AsyncIterator[str]]) -> Run:
    """Time the events of one answer; token counts come from its usage event."""
    start = time.perf_counter()
    first, tokens = 0.0, 0
    async for data in pieces():
        if data == "[DONE]":
            continue
        value = json.loads(data)
        if not first and value["choices"] and value["choices"][0]["delta"].get("content"):
            first = time.perf_counter() - start
        if value.get("usage"):
            tokens = value["usage"]["completion_tokens"]
    return Run(first, time.perf_counter() - start, tokens)


def sealed(client: AsyncClient) -> Ask:
    """Ask over the sealed channel."""

    async def pieces() -> AsyncIterator[str]:
        headers = ((b"content-type", b"application/json"),)
        async with client.request(
            "POST", "/v1/chat/completions", json.dumps(BODY).encode(), headers
        ) as response:
            async for data in event_data(response.body):
                yield data

    return lambda: measure(pieces)


def plain(session: aiohttp.ClientSession, url: str) -> Ask:
    """Ask the same app without the gateway."""

    async def pieces() -> AsyncIterator[str]:
        async with session.post(f"{url}/v1/chat/completions", json=BODY) as response:
            async for data in event_data(response.content.iter_any()):
                yield data

    return lambda: measure(pieces)


async def together(ask: Ask, clients: int) -> tuple[float, float, list[Run]]:
    """`clients` answers at once: tokens a second over all, answers a second, the runs."""
    start = time.perf_counter()
    runs = await asyncio.gather(*(ask() for _ in range(clients)))
    elapsed = time.perf_counter() - start
    return sum(run.tokens for run in runs) / elapsed, clients / elapsed, runs


async def compare(through: Ask, direct: Ask, clients: int, rounds: int) -> list[Figure]:
    """Both sides in turn, the order swapped every round; medians of the ratio within each round."""
    token_ratios, answer_ratios, added, rates = [], [], [], []
    for index in range(rounds):
        order = (through, direct) if index % 2 else (direct, through)
        results = {ask: await together(ask, clients) for ask in order}
        ours, theirs = results[through], results[direct]
        token_ratios.append(ours[0] / theirs[0])
        answer_ratios.append(ours[1] / theirs[1])
        added.append(1000 * (_first(ours[2]) - _first(theirs[2])))
        rates.append(ours[0])
    name = f"{clients} client{'s' if clients > 1 else ''}"
    return [
        at_least(f"{name}: tokens/s, sealed over plain", statistics.median(token_ratios), "ratio", 0.97),
        at_least(f"{name}: answers/s, sealed over plain", statistics.median(answer_ratios), "ratio", 0.97),
        at_most(f"{name}: added to the first token", statistics.median(added), "ms", 2.0),
        at_most(f"{name}: tokens/s sealed", statistics.median(rates), "tokens/s"),
    ]


def _first(runs: list[Run]) -> float:
    return statistics.median(run.first for run in runs)


class CountingWire(HttpWire):
    """Counts round trips."""

    trips = 0

    def send(
        self, method: str, path: str, media_type: str, body: bytes
    ) -> contextlib.AbstractAsyncContextManager[WireResponse]:
        """As HttpWire, counted."""
        self.trips += 1
        return super().send(method, path, media_type, body)


async def cold_and_warm(url: str, policy: Policy) -> list[Figure]:
    """Round trips of a client's first and second answer, and the time that attestation takes."""
    wire = CountingWire(url)
    async with AsyncClient(url, policy, wire=wire) as client:
        start = time.perf_counter()
        await client.attest()
        attested = 1000 * (time.perf_counter() - start)
        await client.ask(QUESTION, max_tokens=1)
        cold = wire.trips
        await client.ask(QUESTION, max_tokens=1)
        warm = wire.trips - cold
    return [
        at_most("round trips to the first answer, cold", cold, "trips", 2),
        at_most("round trips to the next answer", warm, "trips", 1),
        at_most("attestation, first", attested, "ms"),
    ]


@contextlib.contextmanager
def worker(*served: str) -> Iterator[tuple[str, str, Policy]]:
    """The server: (sealed URL, plain URL, policy). `served`: a model and engine options, if not the usual."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "worker.toml"
        command = [sys.executable, "-m", "benchmarks.both_ports", str(policy), *served]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            yield _url(process), _url(process), Policy.from_file(policy)
        finally:
            process.terminate()
            process.wait(20)
            if process.stdout is not None:
                process.stdout.close()


def _url(process: "subprocess.Popen[str]") -> str:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line.startswith("listening on "):
        raise RuntimeError("the server did not start")
    return line.split()[-1]


async def run(rounds: int, served: tuple[str, ...] = ()) -> list[Figure]:
    """All figures."""
    with worker(*served) as (url, plain_url, policy):
        figures = await cold_and_warm(url, policy)
        async with AsyncClient(url, policy) as client, aiohttp.ClientSession() as session:
            through, direct = sealed(client), plain(session, plain_url)
            await together(through, 4)
            await together(direct, 4)
            for clients in CLIENTS:
                figures += await compare(through, direct, clients, rounds)
    return figures


def main() -> None:
    """Measure and publish."""
    options: Any = parser(__doc__ or "", rounds=11)
    options.add_argument("--model", default=str(MODEL), help="another model than the shipped one")
    options.add_argument("--engine", nargs="+", default=[], metavar="NAME=VALUE", help="engine options")
    options = options.parse_args()
    figures = asyncio.run(run(options.rounds, (options.model, *options.engine)))
    publish("overhead", figures, options.json)


if __name__ == "__main__":
    main()
