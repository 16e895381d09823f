"""What adapters and grammars add: to a row beside them, to a row that uses them, in memory, at a switch."""

import statistics
import time
from typing import Any

from benchmarks.engine_work import ADAPTER, decode_step_ms, drain, load, prompts, request
from benchmarks.report import Figure, at_most
from enclave.engine.embedded import EmbeddedEngine
from enclave.engine.grammar import schema_grammar
from enclave.files import DirectoryFiles

ROWS = 32
RESIDENT = (1, 10, 100, 500)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def adapters(rounds: int) -> list[Figure]:
    """A step of 32 rows with so many adapters resident, over the same step of an engine without any."""
    plain = load(max_rows=ROWS + 1)
    figures = []
    for count in RESIDENT:
        engine = load(max_rows=ROWS + 1, max_adapters=count, resident_adapters=count)
        names = [f"a{at}" for at in range(count)]
        start = time.process_time()
        for name in names:
            engine.load_adapter(name, DirectoryFiles(ADAPTER))
        loading = 1000 * (time.process_time() - start) / count
        switching = _bring_in(engine, names) / count
        used = names[: ROWS // 2]
        mixed = [None if row % 2 else used[row // 2 % len(used)] for row in range(ROWS)]
        base, half, alone = [], [], []
        for _ in range(rounds):
            reference = decode_step_ms(plain, _requests([None] * ROWS))
            base.append(decode_step_ms(engine, _requests([None] * ROWS)) / reference)
            half.append(decode_step_ms(engine, _requests(mixed)) / reference)
            alone.append(decode_step_ms(engine, _requests(names[:1] * ROWS)) / reference)
        size = engine._adapters.resident_bytes / 2**20
        goal = 0.05 if count == 100 else None
        figures += [
            at_most(f"{count} resident: added to base rows", statistics.median(base) - 1, "ratio", goal),
            at_most(
                f"{count} resident: added to rows, half with {len(used)} adapters",
                statistics.median(half) - 1,
                "ratio",
            ),
            at_most(f"{count} resident: added to rows of one adapter", statistics.median(alone) - 1, "ratio"),
            at_most(f"{count} resident: loading one", loading, "ms"),
            at_most(f"{count} resident: bringing one in", switching, "ms"),
            at_most(f"{count} resident: memory of the slots", size, "MB"),
        ]
    return figures


def _bring_in(engine: EmbeddedEngine, names: list[str]) -> float:
    """Use every adapter once; processor milliseconds of bringing them in."""
    prompt = prompts(1, 4)[0]
    for at in range(0, len(names), ROWS):
        for name in names[at : at + ROWS]:
            engine.submit(request(name, prompt, 1, adapter=name))
        drain(engine)
    assert engine.stats().adapters_resident == len(names)
    start = time.process_time()
    engine._adapters.refresh()
    return 1000 * (time.process_time() - start)


def _requests(names: list[str | None], **fields: Any) -> list[Any]:
    texts = prompts(len(names))
    return [request(str(row), texts[row], 48, adapter=name, **fields) for row, name in enumerate(names)]


def masks(rounds: int) -> list[Figure]:
    """A step of 32 rows that follow a JSON Schema, over the same step without. Masks overlap: wall time."""
    engine = load(max_rows=ROWS + 1)
    grammar = schema_grammar(SCHEMA)
    added, wall = [], []
    for _ in range(rounds):
        free, free_wall = _timed(engine, _requests([None] * ROWS))
        held = _requests([None] * ROWS, grammar=grammar)
        for one in held:
            engine.prepare(one)
        masked, masked_wall = _timed(engine, held)
        added.append(masked / free)
        wall.append(masked_wall / free_wall)
    return [
        at_most("masks of a JSON Schema: added time a token", statistics.median(wall) - 1, "ratio", 0.10),
        at_most("masks of a JSON Schema: added processor time", statistics.median(added) - 1, "ratio"),
    ]


def _timed(engine: EmbeddedEngine, requests: list[Any]) -> tuple[float, float]:
    for one in requests:
        engine.submit(one)
    for _ in range(4):
        engine.step()
    wall, spent = time.perf_counter(), time.process_time()
    for _ in range(30):
        engine.step()
    spent, wall = time.process_time() - spent, time.perf_counter() - wall
    for one in requests:
        engine.cancel(one.id)
    drain(engine)
    return spent, wall
