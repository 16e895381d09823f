"""What answers look like: choices, streams, log-probabilities, counts. The engine says what it is told."""

import asyncio
import json

import pytest

from enclave.engine.interface import GenerationRequest, Overloaded, Priority
from tests.api.scripted import ROOT, answers, app, chat, deltas, events

MESSAGES = [{"role": "user", "content": "Hi"}]


async def test_n_choices_share_a_prompt_that_nobody_else_shares() -> None:
    async with app(says=answers("one", "two", "three")) as (client, engine):
        answer = (await chat(client, n=3, seed=7)).json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["one", "two", "three"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    shares = {request.share for request in engine.seen if isinstance(request, GenerationRequest)}
    assert len(shares) == 1
    assert len(shares.pop() or b"") == 32
    seeds = [request.sampling.seed for request in engine.seen if isinstance(request, GenerationRequest)]
    assert seeds == [7, 8, 9]
    assert answer["usage"]["prompt_tokens"] == len(engine.seen[0].prompt)
    assert answer["system_fingerprint"].startswith("fp_")
    async with app() as (client, _):
        prints = [(await chat(client, model=name)).json()["system_fingerprint"] for name in ("faq", "sailor")]
    assert prints[0] == answer["system_fingerprint"] != prints[1]


async def test_streams_of_several_choices_say_what_whole_answers_say() -> None:
    async with app(says=answers("one, and more", "two")) as (client, _):
        body = {"model": "faq", "messages": MESSAGES, "n": 2, "stream_options": {"include_usage": True}}
        chunks = await events(client, "/v1/chat/completions", body)
    for index, text in enumerate(("one, and more", "two")):
        first, *rest = deltas(chunks, index)
        assert first == {"role": "assistant", "content": "", "refusal": None}
        assert "".join(delta.get("content", "") for delta in rest) == text
        assert rest[-1] == {}
    assert chunks[-1] == "[DONE]"
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"]["completion_tokens"] > 2
    assert all(chunk["usage"] is None for chunk in chunks[:-2])


async def test_logprobs_belong_to_the_text_that_is_shown() -> None:
    async with app(says=answers("naïve 🙂 STOP and more")) as (client, engine):
        fields = {"logprobs": True, "top_logprobs": 2, "stop": " STOP"}
        choice = (await chat(client, **fields)).json()["choices"][0]
        chunks = await events(client, "/v1/chat/completions", {"model": "faq", "messages": MESSAGES} | fields)
    assert choice["message"]["content"] == "naïve 🙂"
    content = choice["logprobs"]["content"]
    raw = b"".join(bytes(token["bytes"]) for token in content)
    assert raw.startswith("naïve 🙂".encode())
    assert len(raw) <= len("naïve 🙂 S".encode()) + 8
    assert all(len(token["top_logprobs"]) == 2 and token["logprob"] == -0.5 for token in content)
    streamed = [c["choices"][0]["logprobs"] for c in chunks if c != "[DONE]" and c["choices"][0]["logprobs"]]
    assert [token for part in streamed for token in part["content"]] == content
    assert engine.seen[0].logprobs == 2  # type: ignore[union-attr]


async def test_completions_take_several_prompts_echo_them_and_rank() -> None:
    async with app(says=answers("b", "c")) as (client, _):
        body = {"model": "faq", "prompt": ["x", "y"], "echo": True}
        whole = (await client.post("/v1/completions", json=body)).json()
        chunks = await events(client, "/v1/completions", body)
    assert [choice["text"] for choice in whole["choices"]] == ["xb", "yc"]
    assert chunks[0]["choices"][0]["text"] == "x"
    async with app(says=answers("aa", "bb", "cc")) as (client, engine):
        body = {"model": "faq", "prompt": "x", "best_of": 3, "logprobs": 1}
        ranked = (await client.post("/v1/completions", json=body)).json()
    assert len(ranked["choices"]) == 1
    made = ranked["usage"]["completion_tokens"]
    assert made == sum(len(engine.text.encode(text)) for text in ("aa", "bb", "cc"))
    scores = ranked["choices"][0]["logprobs"]
    assert "".join(scores["tokens"]) == ranked["choices"][0]["text"]
    assert scores["text_offset"][0] == 0
    assert len(scores["top_logprobs"][0]) in (1, 2)


async def test_an_answer_that_is_cut_off_says_length() -> None:
    async with app(says=answers("one two three four")) as (client, _):
        assert (await chat(client, max_completion_tokens=2)).json()["choices"][0]["finish_reason"] == "length"


async def test_what_shapes_sampling_reaches_the_engine() -> None:
    async with app() as (client, engine):
        await chat(client, frequency_penalty=1.5, presence_penalty=-1, logit_bias={"5": -100}, top_p=0.5)
    sampling = engine.seen[0].sampling  # type: ignore[union-attr]
    assert (sampling.frequency_penalty, sampling.presence_penalty, sampling.top_p) == (1.5, -1.0, 0.5)
    assert sampling.logit_bias == ((5, -100.0),)
    assert engine.seen[0].priority is Priority.STANDARD


async def test_a_full_engine_says_when_to_come_back() -> None:
    async with app(refuses=Overloaded("the queue is full", 2.3)) as (client, _):
        response = await chat(client)
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")
    assert response.json()["error"]["type"] == "rate_limit_error"


async def test_a_sibling_that_is_refused_cancels_what_was_begun() -> None:
    async with app(says=lambda request: "a " * 20_000, context_length=90_000) as (client, engine):
        submit, count = engine.submit, 0

        def once(request: GenerationRequest) -> None:
            nonlocal count
            count += 1
            if count > 1:
                raise Overloaded("full")
            submit(request)

        engine.submit = once  # type: ignore[method-assign,assignment]
        response = await chat(client, n=2)
        while not engine.cancelled:
            await asyncio.sleep(0.01)
    assert response.status_code == 429
    assert engine.cancelled == [engine.seen[0].id]


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings_in_both_spellings(encoding: str) -> None:
    async with app() as (client, engine):
        body = {"model": "minilm", "input": ["one", [5, 6, 7]], "encoding_format": encoding}
        answer = (await client.post("/v1/embeddings", json=body)).json()
    assert [item["index"] for item in answer["data"]] == [0, 1]
    tokens = [len(request.prompt) for request in engine.seen]
    assert answer["usage"] == {"prompt_tokens": sum(tokens), "total_tokens": sum(tokens)}
    if encoding == "float":
        assert answer["data"][1]["embedding"] == pytest.approx([0.6, 3.0, -0.8])
    else:
        assert answer["data"][1]["embedding"] == "mpkZPwAAQEDNzEy/"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"input": "x", "dimensions": 2}, 400, "dimensions"),
        ({"input": ""}, 400, "empty"),
        ({"input": []}, 400, "input"),
        ({"input": [10**6]}, 400, "vocabulary"),
        ({"input": "x", "model": "faq"}, 404, "minilm"),
        ({"input": "x", "user": "someone"}, 400, "user"),
        ({"input": "x", "encoding_format": "hex"}, 400, "encoding_format"),
    ],
)
async def test_embeddings_that_cannot_be_are_refused(body: dict, status: int, words: str) -> None:
    async with app() as (client, _):
        response = await client.post("/v1/embeddings", json={"model": "minilm"} | body)
    assert response.status_code == status
    assert words in response.json()["error"]["message"]


async def test_models_of_all_kinds_are_listed() -> None:
    async with app() as (client, _):
        listed = (await client.get("/v1/models")).json()["data"]
        assert (await client.get("/v1/models/minilm")).status_code == 200
        missing = await client.get("/v1/models/none")
    assert [model["id"] for model in listed] == ["faq", "sailor", "minilm"]
    assert json.loads(missing.text)["error"]["code"] == "model_not_found"
    assert ROOT


async def test_many_texts_never_fill_the_engines_queue() -> None:
    waiting: list[int] = []
    async with app() as (client, engine):
        step = engine.step

        def counting() -> list:
            waiting.append(len(engine._queue))
            return step()

        engine.step = counting  # type: ignore[method-assign]
        body = {"model": "minilm", "input": ["one"] * 300}
        answer = (await client.post("/v1/embeddings", json=body)).json()
    assert len(answer["data"]) == 300
    assert max(waiting) <= 32
