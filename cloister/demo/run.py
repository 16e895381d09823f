"""`cloister demo`: the whole job once, told as it happens."""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from attestation import ExitCode, Policy, Rejected
from client.sdk import AsyncClient
from cloister.cli import render
from enclave.gpu.link.watch import Recorder, Watcher, windows
from enclave.gpu.link.watch import row as watched_row

from .operator import Relay, Seen, bus_watched
from .worker import DemoFailed, started

QUESTION = "What is remote attestation?"
EDGE = 24
ROWS = 8


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds to attest, to the first piece of text, for the whole answer; its tokens.

    `seen` is how much the operator had seen when the answer was complete.
    """

    attested: float
    first: float
    whole: float
    tokens: int
    seen: int


def run(question: str | None) -> int:
    """Run the demo; 0 if everything worked, 1 or 10 with the reason if not."""
    console = Console(highlight=False)
    try:
        asyncio.run(_story(console, question or QUESTION))
    except DemoFailed as error:
        sys.stderr.write(f"cloister: {error}\n")
        return ExitCode.INTERNAL
    except Rejected as error:
        render.verdict(console, error.verdict)
        return ExitCode.REJECTED
    return ExitCode.ACCEPTED


async def _story(console: Console, question: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        policy_file = Path(folder) / "worker.toml"
        _title(console, "1. A worker starts under the simulated security processor, which measures it first")
        begin = time.perf_counter()
        async with started(policy_file) as url:
            console.print(f"listening on {url} after {time.perf_counter() - begin:.1f} s")
            policy = Policy.from_file(policy_file)
            relay = Relay(url)
            with bus_watched() as bus:
                async with relay.running() as through:
                    timing = await _exchange(console, relay, through, policy, question)
            _operator(console, relay.seen[: timing.seen], question)
            if bus is not None:
                _bus(console, *bus, question)
            _times(console, timing)
        _title(console, "The worker has stopped.")


async def _exchange(console: Console, relay: Relay, url: str, policy: Policy, question: str) -> Timing:
    async with AsyncClient(url, policy) as client:
        _title(console, "2. The client fetches evidence for its own nonce and judges it under its policy")
        begin = time.perf_counter()
        verdict = (await client.attest()).verdict
        attested = time.perf_counter() - begin
        render.verdict(console, verdict)

        _title(console, "3. Only now a question is sealed, to a key that the evidence vouches for")
        console.print(f"client asks: {question}\nworker says: ", end="")
        begin = time.perf_counter()
        first = 0.0
        async for piece in client.stream(question, temperature=0.0):
            first = first or time.perf_counter() - begin
            console.print(piece, end="", markup=False, soft_wrap=True)
        whole = time.perf_counter() - begin
        console.print()
        seen = len(relay.seen)
        again = await client.ask(question, temperature=0.0)  # the same, with its token count
    return Timing(attested, first, whole, again.usage["completion_tokens"], seen)


def _operator(console: Console, all_seen: list[Seen], question: str) -> None:
    """What went over the wire while the question was answered."""
    _title(console, "4. What the operator saw of the same exchange")
    start = next((i for i, seen in enumerate(all_seen) if b"POST /ohttp" in seen.data), 0)
    rows = all_seen[start:]
    for seen in rows[:ROWS]:
        console.print(_row(seen), soft_wrap=True, markup=False)
    if len(rows) > ROWS:
        console.print(f"... and {len(rows) - ROWS} more like these")
    total = b"".join(seen.data for seen in rows)
    found = any(question.encode()[i : i + 8] in total for i in range(len(question.encode()) - 7))
    console.print(
        f"{len(total)} bytes in {len(rows)} reads; the question, in windows of 8 bytes: "
        f"{'FOUND' if found else 'not found'}"
    )


def _bus(console: Console, watcher: Watcher, recorder: Recorder, question: str) -> None:
    """What crossed between worker and device meanwhile."""
    console.print("\n[bold]...and of the memory between worker and GPU[/bold]")
    protected = [one for one in recorder.seen if not one.kind.startswith("spdm")]
    for one in protected[:ROWS]:
        console.print(watched_row(one, protected[0].at), soft_wrap=True, markup=False, highlight=False)
    kinds = Counter({"spdm": 0})
    for (_, _, kind), count in recorder.total.items():
        kinds["spdm" if kind.startswith("spdm") else kind] += count
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    found = windows(question.encode(), [watcher.everything()])
    console.print(
        f"{sum(recorder.total.values())} records ({counts}); the question, in windows of 8 bytes: "
        f"{'FOUND' if found else 'not found'}"
    )


def _row(seen: Seen) -> str:
    body = seen.data.partition(b"\r\n\r\n")[2] or seen.data
    return f"{seen.at:7.3f} s  {seen.direction}  {len(seen.data):6} bytes  {body[:EDGE].hex()}..."


def _times(console: Console, timing: Timing) -> None:
    _title(console, "5. Times")
    console.print(f"attestation  {1000 * timing.attested:7.1f} ms  (evidence gathered, fetched and verified)")
    console.print(f"first token  {1000 * timing.first:7.1f} ms")
    rate = (timing.tokens - 1) / (timing.whole - timing.first) if timing.tokens > 1 else 0.0
    console.print(f"tokens/s     {rate:7.1f}     ({timing.tokens} tokens, one request)")


def _title(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")
