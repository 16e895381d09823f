"""Fairness: what a long prompt does to others, premium's share, what a shared prefix spares."""

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.engine_work import cpu_seconds, drain, load, prompts, request, save_longer_model
from benchmarks.report import Figure, at_least, at_most
from enclave.engine.embedded import EmbeddedEngine
from enclave.engine.interface import Priority, TokenEvent

STREAMS = 8
LONG = 2000
_SMALL_STEP = {"step_tokens": 24, "max_rows": 16}
_WHOLE_STEP = {"step_tokens": 4096, "max_rows": 16}


def interference(rounds: int) -> list[Figure]:
    """Eight streams run and a prompt of 2,000 tokens arrives: the longest gap between their tokens.

    Naive reads the prompt in one step, ours in pieces beside the streams' tokens. Gaps are processor time.
    """
    with tempfile.TemporaryDirectory() as folder:
        model = save_longer_model(Path(folder))
        naive, pieces = load(model, **_WHOLE_STEP), load(model, **_SMALL_STEP)
        found = [(_gap(pieces, 0), _gap(pieces, LONG), _gap(naive, LONG)) for _ in range(rounds)]
    quiet, held, stalled = (statistics.median(column) for column in zip(*found, strict=True))
    return [
        at_most("longest gap, quiet", 1000 * quiet, "ms"),
        at_most("longest gap, long prompt in pieces", 1000 * held, "ms"),
        at_most("longest gap, long prompt whole", 1000 * stalled, "ms"),
        at_most("pieces over quiet", held / quiet, "ratio", 2.0),
        at_least("whole over pieces", stalled / held, "ratio", 5.0),
    ]


def _gap(engine: EmbeddedEngine, arriving: int) -> float:
    """The longest of at least 80 steps, in which a prompt of so many tokens is read."""
    for row, prompt in enumerate(prompts(STREAMS)):
        engine.submit(request(f"stream{row}", prompt, 600))
    for _ in range(20):
        engine.step()
    if arriving:
        engine.submit(request("long", prompts(1, arriving, seed=1)[0], 1))
    gaps: list[float] = []
    arrived = not arriving
    while len(gaps) < 80 or not arrived:
        start = time.process_time()
        events = engine.step()
        gaps.append(time.process_time() - start)
        arrived = arrived or any(event.id == "long" for event in events)
    for row in range(STREAMS):
        engine.cancel(f"stream{row}")
    drain(engine)
    return max(gaps)


def shares(_rounds: int) -> list[Figure]:
    """A premium and a standard tenant, both with always more to ask: premium's part of the tokens."""
    figures = []
    for share in (10, 25, 50):
        engine = load(max_rows=32, step_tokens=128, premium_share=share)
        part = _premium_part(engine) / (share / 100)
        figures.append(at_most(f"premium at {share} %: off its share by", abs(part - 1), "ratio", 0.05))
    return figures


def _premium_part(engine: EmbeddedEngine, steps: int = 1500) -> float:
    tenants = {Priority.PREMIUM: "one", Priority.STANDARD: "other"}
    texts = prompts(64)
    served = dict.fromkeys(tenants, 0)
    names: dict[str, Priority] = {}
    for step in range(steps):
        for priority, tenant in tenants.items():
            while engine.stats().waiting_by_priority[priority] < 24:
                name = f"{tenant}{len(names)}"
                names[name] = priority
                wanted = request(name, texts[len(names) % 64], 24, tenant=tenant, priority=priority)
                engine.submit(wanted)
        for event in engine.step():
            if isinstance(event, TokenEvent) and event.token is not None and step > steps // 5:
                served[names[event.id]] += 1
    return served[Priority.PREMIUM] / sum(served.values())


def prefixes(rounds: int) -> list[Figure]:
    """Time to a first token when a prompt of 960 tokens was read before: under the same key, under others."""
    engine = load()
    prompt = prompts(1, 960)[0]
    keys = {"same": b"1" * 32, "another": b"2" * 32, "none": None}
    engine.submit(request("first", prompt, 1, share=keys["same"]))
    drain(engine)
    times: dict[str, list[float]] = {name: [] for name in (*keys, "never read")}
    for at in range(rounds):
        unread = prompts(1, 960, seed=2 + at)[0]
        for name, one, key in [
            ("same", prompt, keys["same"]),
            ("another", prompt, bytes([at]) * 31 + b"2"),
            ("none", prompt, None),
            ("never read", unread, None),
        ]:
            engine.submit(request(name, one, 1, share=key))
            times[name].append(cpu_seconds(lambda: drain(engine)))
    same, another, none, unread_time = (statistics.median(times[name]) for name in times)
    return [
        at_least("first token: another key over the same", another / same, "ratio", 5.0),
        at_most("first token: another key over a prompt never read", another / unread_time, "ratio", 1.1),
        at_most("first token: no key over a prompt never read", none / unread_time, "ratio", 1.1),
    ]
