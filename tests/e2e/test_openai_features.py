"""What the openai package can ask for, over the sealed channel, answered by the shipped model."""

import json
import math
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field
from tokenizers import Tokenizer

from client.blocking import Client
from client.errors import ApiFailure, ShapeMismatch
from tests.e2e.test_openai import QUESTION, sync_client
from tests.running import FAQ, RunningWorker

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


class Trip(BaseModel):
    """A typed answer that even a small model can be held to."""

    city: Literal["Rome", "Oslo"]
    kind: Literal["train", "ship"]
    stops: list[Literal["a", "b"]] = Field(max_length=2)


def create(client: openai.OpenAI, **options: Any) -> Any:
    usual: dict[str, Any] = {"model": "faq", "messages": QUESTION, "temperature": 0}
    return client.chat.completions.create(**usual | options)


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}


def token_ids(text: str) -> list[str]:
    """The ids of a text's tokens, as logit_bias spells them."""
    tokenizer = Tokenizer.from_file(str(FAQ / "tokenizer.json"))
    return [str(token) for token in tokenizer.encode(text, add_special_tokens=False).ids]


def test_choices_penalties_bias_and_logprobs(worker: RunningWorker) -> None:
    with sync_client(worker) as client:
        odd: dict[str, Any] = {"n": 3, "temperature": 2, "seed": 3, "max_tokens": 12}
        odd["messages"] = [{"role": "user", "content": "Zebra soup?"}]
        several, again = create(client, **odd), create(client, **odd)
        assert [c.message.content for c in several.choices] == [c.message.content for c in again.choices]
        assert len({choice.message.content for choice in several.choices}) > 1
        assert several.system_fingerprint == again.system_fingerprint
        assert several.system_fingerprint.startswith("fp_")

        scored = create(client, logprobs=True, top_logprobs=3, max_completion_tokens=8).choices[0]
        content = scored.logprobs.content
        assert bytes(b for token in content for b in token.bytes).decode() == scored.message.content
        for token in content:
            assert len(token.top_logprobs) == 3
            assert token.top_logprobs[0].logprob == pytest.approx(token.logprob, abs=1e-4)
            assert math.exp(token.logprob) <= 1

        first = client.completions.create(
            model="faq", prompt="Attestation", max_tokens=1, temperature=0, logprobs=2
        ).choices[0]
        assert first.logprobs is not None
        assert first.logprobs.top_logprobs is not None
        assert len(first.logprobs.top_logprobs[0]) >= 2
        ban = dict.fromkeys(token_ids(first.text), -100)
        banned = client.completions.create(
            model="faq", prompt="Attestation", max_tokens=1, temperature=0, logit_bias=ban
        )
        assert banned.choices[0].text != first.text

        loop = "attestation " * 20
        plain = client.completions.create(model="faq", prompt=loop, max_tokens=20, temperature=0)
        varied = client.completions.create(
            model="faq", prompt=loop, max_tokens=20, temperature=0, frequency_penalty=2, presence_penalty=2
        )
        assert plain.choices[0].text != varied.choices[0].text


def test_prompts_in_a_list_echo_and_best_of(worker: RunningWorker) -> None:
    with sync_client(worker) as client:
        both = client.completions.create(
            model="faq", prompt=["Attestation", "A worker"], max_tokens=4, temperature=0, echo=True
        )
        assert [choice.text.split()[0] for choice in both.choices] == ["Attestation", "A"]
        best = client.completions.create(model="faq", prompt="A worker", best_of=3, n=2, max_tokens=6, seed=1)
        assert len(best.choices) == 2
        chunks = list(client.completions.create(model="faq", prompt="A", n=2, max_tokens=3, stream=True))
        assert {chunk.choices[0].index for chunk in chunks} == {0, 1}


def test_an_answer_has_the_shape_that_was_asked_for(worker: RunningWorker) -> None:
    with sync_client(worker) as client:
        parsed = client.chat.completions.parse(model="faq", messages=QUESTION, response_format=Trip)  # type: ignore[arg-type]
        assert isinstance(parsed.choices[0].message.parsed, Trip)
        numbers = schema_format({"type": "array", "items": {"enum": [1, 2]}, "maxItems": 3})
        objects = create(client, response_format=numbers, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in objects)
        assert set(json.loads(text)) <= {1, 2}
        with pytest.raises(openai.BadRequestError, match="/properties/a/not"):
            schema = {"type": "object", "properties": {"a": {"not": {}}}}
            create(client, response_format=schema_format(schema))


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_functions_are_called_as_they_are_declared(worker: RunningWorker, choice: Any) -> None:
    with sync_client(worker) as client:
        answer = create(client, tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False)
        (call,) = answer.choices[0].message.tool_calls
        assert answer.choices[0].finish_reason == "tool_calls"
        assert call.function.name == "weather"
        arguments = json.loads(call.function.arguments)
        assert arguments["city"] in ("Rome", "Oslo")
        assert arguments["days"] <= 9
        result = {"role": "tool", "tool_call_id": call.id, "content": "sun"}
        history = [*QUESTION, answer.choices[0].message, result]
        after = create(client, messages=history, tools=[WEATHER], tool_choice="none", max_tokens=4)
        assert after.choices[0].message.content

        with client.chat.completions.stream(
            model="faq", messages=QUESTION, tools=[WEATHER], tool_choice=choice, temperature=0
        ) as stream:  # type: ignore[call-overload]
            stream.until_done()
            final = stream.get_final_completion()
        assert final.choices[0].message.tool_calls[0].function.name == "weather"
        assert json.loads(final.choices[0].message.tool_calls[0].function.arguments)["days"] <= 9


def test_a_model_left_free_may_answer_in_text(worker: RunningWorker) -> None:
    with sync_client(worker) as client:
        answer = create(client, tools=[WEATHER]).choices[0]
    assert answer.finish_reason in ("stop", "tool_calls", "length")
    assert answer.message.content or answer.message.tool_calls


def test_the_sdk_gives_a_typed_object(worker: RunningWorker) -> None:
    with Client(worker.url, worker.policy) as client:
        assert isinstance(client.parse("Where to?", Trip, temperature=0), Trip)
        assert client.parse("Which?", Literal["x", "y"]) in ("x", "y")  # type: ignore[arg-type]
        with pytest.raises(ShapeMismatch, match="cut off"):
            client.parse("Where to?", Trip, max_tokens=2)
        with pytest.raises(ApiFailure, match="uniqueItems"):
            client.parse("Where to?", set[int])
        with pytest.raises(ApiFailure, match="no encoder"):
            client.embed("x")
        called = client.ask("Weather?", tools=[WEATHER], tool_choice="required", parallel_tool_calls=False)
        assert called.tool_calls[0]["function"]["name"] == "weather"
