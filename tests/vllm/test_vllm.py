"""vLLM against the embedded engine on the shipped model: the same greedy tokens, whatever else is asked for.

Runs vLLM in an environment of its own: CLOISTER_VLLM_PYTHON=/path/to/env/bin/python pytest -m vllm
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from client.artifacts.seal import seal
from enclave.engine.interface import EngineOptions
from enclave.files import DirectoryFiles
from enclave.text import TextModel
from enclave.text.grammar import of_schema
from enclave.text.json_schema import accept
from tests.artifacts.made import order
from tests.engine.models import drain, expected, save_model
from tests.running import FAQ, ROOT
from tests.vllm.jobs import request

PYTHON = os.environ.get("CLOISTER_VLLM_PYTHON")
ADAPTER = FAQ.parent / "adapters" / "sailor"
ENGINE = {"kv_tokens": 4096, "block_tokens": 32, "max_rows": 8, "step_tokens": 256, "max_adapters": 2}
QUESTIONS = (
    "What is remote attestation?",
    "Who may see my prompt?",
    "What is a key broker?",
    "Why does the GPU need attestation too?",
    "Zebra soup, 3 spoons of salt?",
    "x",
)
SHARE = "ab" * 32

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(PYTHON is None, reason="CLOISTER_VLLM_PYTHON names no environment with vLLM"),
]


def job(name: str, question: str, **fields: Any) -> dict[str, Any]:
    text = TextModel(FAQ)
    ids = text.chat([{"role": "user", "content": question}])
    return {"id": name, "prompt": ids, "max_tokens": 40, "eos": sorted(text.eos)} | fields


def jobs() -> list[list[dict[str, Any]]]:
    schema = accept({"type": "array", "items": {"enum": ["red", "green", 3]}, "minItems": 2, "maxItems": 3})
    bias = [[token, -100.0] for token in range(300, 500)]
    plain = [job(f"q{at}", question) for at, question in enumerate(QUESTIONS)]
    first = [
        *plain,
        job("long", "attestation " * 180),
        job("sailor", QUESTIONS[0], adapter="sailor"),
        job("grammar", QUESTIONS[0], grammar=of_schema(schema)),
        job("penalties", QUESTIONS[4], sampling={"frequency_penalty": 1.5, "presence_penalty": 1.0}),
        job("bias", QUESTIONS[0], sampling={"logit_bias": bias}),
        job("scored", QUESTIONS[1], logprobs=3),
        job("short", QUESTIONS[1], max_tokens=3),
    ]
    again = [
        job("shared once", QUESTIONS[2], share=SHARE, priority="premium"),
        job("shared twice", QUESTIONS[2], share=SHARE, priority="basic"),
        job("seed one", QUESTIONS[4], sampling={"temperature": 1.5, "seed": 7}),
        job("seed two", QUESTIONS[4], sampling={"temperature": 1.5, "seed": 7}),
    ]
    return [first, again]


REFUSED = {
    "too long": ("PromptTooLong", {"max_tokens": 1024}),
    "no adapter": ("UnknownAdapter", {"adapter": "nobody"}),
    "bad grammar": ("InvalidRequest", {"grammar": "%llguidance {}\nstart: ("}),
    "bad token": ("InvalidRequest", {"prompt": [10**6]}),
}


@cache
def theirs() -> dict[str, Any]:
    refused = [job(name, "x", **fields) for name, (_, fields) in REFUSED.items()]
    return probe([*jobs(), refused, [job("left", QUESTIONS[0])]], cancel=["left"])


def probe(batches: list[list[dict[str, Any]]], **task: Any) -> dict[str, Any]:
    """What VllmEngine answers, in its own environment."""
    whole = {"model": str(FAQ), "engine": ENGINE, "adapters": {"sailor": str(ADAPTER)}, "batches": batches}
    threads = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    environment = os.environ | threads | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [str(PYTHON), "-m", "tests.vllm.probe"],
        input=json.dumps(whole | task), capture_output=True, text=True, timeout=500, check=False,
        cwd=ROOT, env=environment,
    )  # fmt: skip
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert done.returncode == 0 and results, done.stdout[-2000:] + done.stderr[-4000:]
    found: dict[str, Any] = json.loads(results[0].removeprefix("RESULT "))
    return found


@cache
def ours() -> dict[str, Any]:
    """The embedded engine's answers to the same jobs."""
    from enclave.engine.embedded import EmbeddedEngine

    engine = EmbeddedEngine.load(DirectoryFiles(FAQ), EngineOptions(threads=1))
    engine.load_adapter("sailor", DirectoryFiles(ADAPTER))
    scores: dict[str, Any] = {"tokens": {}, "ends": {}, "logprobs": {}}
    for batch in jobs():
        for one in batch:
            engine.submit(request(one))
        while engine.has_work():
            for event in engine.step():
                if event.token is not None:
                    scores["tokens"].setdefault(event.id, []).append(event.token)
                    scores["logprobs"].setdefault(event.id, []).append(event.logprob)
                if event.finish is not None:
                    scores["ends"][event.id] = event.finish
    assert drain(engine) == ({}, {})
    return scores


GREEDY = [one["id"] for batch in jobs() for one in batch if "seed" not in one["id"]]


@pytest.mark.parametrize("name", GREEDY)
def test_greedy_answers_are_those_of_the_embedded_engine(name: str) -> None:
    answer = theirs()["answers"][name]
    assert answer["refused"] is None
    assert answer["tokens"] == ours()["tokens"].get(name, [])
    assert answer["finish"] == ours()["ends"][name]


def test_log_probabilities_agree() -> None:
    answer = theirs()["answers"]["scored"]
    assert answer["logprobs"] == pytest.approx(ours()["logprobs"]["scored"], abs=1e-3)
    assert all(len(top) == 3 and top[0][1] >= top[1][1] >= top[2][1] for top in answer["top"])


def test_a_seed_repeats_an_answer() -> None:
    one, two = (theirs()["answers"][name]["tokens"] for name in ("seed one", "seed two"))
    assert one == two != []


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_as_elsewhere(name: str) -> None:
    assert theirs()["answers"][name]["refused"] == REFUSED[name][0]


def test_cancelling_ends_a_request() -> None:
    assert theirs()["answers"]["left"]["finish"] == "cancelled"


def test_no_weights_were_written_anywhere_and_what_was_is_gone() -> None:
    found = theirs()
    assert "config.json" in found["files"]
    assert not [name for name in found["files"] if name.endswith((".safetensors", ".bin", ".pt"))]
    assert found["removed"]
    assert found["context"] == 1024


def test_a_sealed_model_is_read_straight_into_vllm_and_erased(tmp_path: Path) -> None:
    seal(order(FAQ, name="faq", chunk_size=1 << 18), tmp_path / "sealed")
    assert not any(path.suffix == ".safetensors" for path in (tmp_path / "sealed").iterdir())
    found = probe([[job("q0", QUESTIONS[0])]], sealed=str(tmp_path / "sealed"), adapters={})
    assert found["answers"]["q0"]["tokens"] == ours()["tokens"]["q0"]
    assert found["left"] == [0.0]
    assert not [name for name in found["files"] if name.endswith(".safetensors")]


def test_several_processes_are_fed_through_the_socket(tmp_path: Path) -> None:
    """The shipped model has three heads and cannot be halved: a made one, with random weights."""
    sizes = {"vocab_size": 128, "hidden_size": 128, "intermediate_size": 128, "max_position_embeddings": 128}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(**sizes, **heads, initializer_range=0.4, bos_token_id=1, eos_token_id=2)
    model = save_model(config, tmp_path / "model")
    prompts = {"a": tuple(range(5, 25)), "b": (9, 8, 7)}
    batch = [{"id": n, "prompt": p, "max_tokens": 12, "eos": [2]} for n, p in prompts.items()]
    task = {"model": str(model), "adapters": {}, "vllm": {"tensor_parallel": 2, "executor": "mp"}}
    found = probe([batch], **task)["answers"]
    for name, prompt in prompts.items():
        assert found[name]["tokens"] == expected(model, prompt, 12)


def served(python: str, kind: str) -> dict[str, Any]:
    """What the worker of `cloister serve --tee --engine KIND` answers."""
    turns = [{"role": "user", "content": QUESTIONS[0]}]
    bounds = {"messages": turns, "temperature": 0, "max_tokens": 40}
    schema = {"name": "s", "schema": {"enum": ["red", "green"]}, "strict": True}
    held = {"response_format": {"type": "json_schema", "json_schema": schema}}
    questions = [{"model": "faq"}, {"model": "sailor"}, {"model": "faq"} | held]
    threads = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    done = subprocess.run(
        [python, "-m", "tests.vllm.served", kind],
        input=json.dumps([bounds | each for each in questions]), capture_output=True, text=True,
        timeout=500, check=False, cwd=ROOT, env=os.environ | threads | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert done.returncode == 0 and results, done.stdout[-2000:] + done.stderr[-4000:]
    found: dict[str, Any] = json.loads(results[0].removeprefix("RESULT "))
    return found


def test_a_worker_is_served_over_vllm_and_answers_like_ours() -> None:
    theirs, ours = served(str(PYTHON), "vllm"), served(sys.executable, "embedded")
    assert (theirs["engine"]["kind"], ours["engine"]["kind"]) == ("vllm", "embedded")
    texts = [
        [answer["choices"][0]["message"]["content"] for answer in each["answers"]] for each in (theirs, ours)
    ]
    assert texts[0] == texts[1] and texts[0][0] != texts[0][1]
    assert json.loads(texts[0][2]) in ("red", "green")
