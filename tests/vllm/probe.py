"""Runs in vLLM's own environment: the jobs on standard input through VllmEngine, what came of them as JSON.

python -m tests.vllm.probe < jobs.json
"""

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from enclave.artifacts.sealed_files import SealedFiles, read_signed
from enclave.artifacts.stores import DirectoryStore
from enclave.engine.interface import EngineError, EngineOptions, TokenEvent
from enclave.engine.vllm.engine import VllmEngine
from enclave.engine.vllm.options import VllmOptions
from enclave.files import DirectoryFiles
from tests.artifacts.made import secret_for
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


def sealed(directory: str) -> SealedFiles:
    """A sealed artifact whose key is the tests' own."""
    store = DirectoryStore(Path(directory))
    signed = read_signed(store)
    return SealedFiles(store, signed, secret_for(signed), time.time())


def largest(model: Any) -> float:
    """The largest magnitude among the parameters."""
    return max(float(tensor.abs().max()) for tensor in model.parameters() if tensor.numel())


def main() -> int:
    task = json.load(sys.stdin)
    bounds = EngineOptions(**task["engine"])
    options = VllmOptions(engine=bounds, eager=True, memory_share=0.3, **task.get("vllm", {}))
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(sealed(task["sealed"])) if "sealed" in task else None
        engine = VllmEngine.load(files or DirectoryFiles(Path(task["model"])), options)
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
    engine.erase()
    result["left"] = engine._engine.apply_model(largest)
    engine.close()
    print("RESULT " + json.dumps(result | {"files": left, "removed": not place.exists()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
