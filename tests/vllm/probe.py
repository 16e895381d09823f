"""Runs in vLLM's own environment: the jobs on standard input through VllmEngine, what came of them as JSON.

python -m tests.vllm.probe < jobs.json
"""

import json
import sys
from pathlib import Path
from typing import Any

from enclave.engine.interface import EngineError, EngineOptions, TokenEvent
from enclave.engine.vllm.engine import VllmEngine
from enclave.engine.vllm.options import VllmOptions
from enclave.files import DirectoryFiles
from tests.vllm.jobs import request


def collect(engine: VllmEngine, answers: dict[str, dict[str, Any]]) -> None:
    """One step's events."""
    for event in engine.step():
        assert isinstance(event, TokenEvent)
        answer = answers[event.id]
        if event.token is not None:
            answer["tokens"].append(event.token)
            answer["logprobs"].append(event.logprob)
            answer["top"].append(event.top)
        answer["finish"] = event.finish or answer["finish"]


def main() -> int:
    task = json.load(sys.stdin)
    bounds = EngineOptions(**task["engine"])
    options = VllmOptions(engine=bounds, eager=True, memory_share=0.3, **task.get("vllm", {}))
    files = DirectoryFiles(Path(task["model"]))
    engine = VllmEngine.load(files, options)
    left = sorted(str(path.name) for path in engine._place.path.rglob("*") if path.is_file())
    for name, directory in task.get("adapters", {}).items():
        engine.load_adapter(name, DirectoryFiles(Path(directory)))
    answers: dict[str, dict[str, Any]] = {}
    for batch in task["batches"]:
        for job in batch:
            answers[job["id"]] = {"tokens": [], "finish": None, "logprobs": [], "top": [], "refused": None}
            try:
                engine.prepare(request(job)) if job.get("grammar") else None
                engine.submit(request(job))
            except EngineError as error:
                answers[job["id"]]["refused"] = type(error).__name__
        collect(engine, answers)
        for name in set(task.get("cancel", ())) & {job["id"] for job in batch}:
            engine.cancel(name)
        while engine.has_work():
            collect(engine, answers)
    result = {"answers": answers, "context": engine.context_length, "adapters": sorted(engine.adapters)}
    place = engine._place.path
    engine.close()
    print("RESULT " + json.dumps(result | {"files": left, "removed": not place.exists()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
