"""What clients should not send: refused by name in OpenAI's shape, before inference."""

import json
import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_params

from enclave.api import refused
from enclave.api.bodies import _parse
from enclave.api.chat import ChatRequest
from enclave.api.errors import ApiError
from enclave.api.schemas import CompletionRequest, EmbeddingsRequest
from tests.api.scripted import app, chat

QUESTION = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        (chat_params.CompletionCreateParamsBase, ChatRequest),
        (completion_create_params.CompletionCreateParamsBase, CompletionRequest),
        (embedding_create_params.EmbeddingCreateParams, EmbeddingsRequest),
    ],
)
def test_every_field_that_openais_package_can_send_is_known_here(params: Any, kind: Any) -> None:
    sent = set(typing.get_type_hints(params))
    assert len(sent) >= 5
    assert sent - set(kind.model_fields) - set(kind.refused) == set()
    assert set(kind.model_fields) & set(kind.refused) == set()


@pytest.mark.parametrize("name", sorted(refused.CHAT))
async def test_what_cannot_be_honoured_is_refused_by_name_and_neutral_values_pass(name: str) -> None:
    async with app() as (client, engine):
        response = await chat(client, **{name: ["something"]})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == name
        assert response.json()["error"]["code"] == "unsupported"
        assert engine.seen == []
        for neutral in refused.CHAT[name]:
            assert (await chat(client, **{name: neutral})).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 9}, "n"),
        ({"n": 0}, "n"),
        ({"stop": ["x"] * 5}, "stop"),
        ({"stop": "x" * 257}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["x"] * 100_000}, "stop"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"top_logprobs": 2}, None),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"999999": 1}}, "logit_bias"),
        ({"logit_bias": {str(at): 1 for at in range(20_000)}}, "logit_bias"),
        ({"seed": 2**63}, "seed"),
        ({"stream_options": {"include_usage": True}}, None),
        ({"max_tokens": 3, "max_completion_tokens": 4}, None),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tool_choice": "required"}, None),
        ({"parallel_tool_calls": True}, None),
        ({"tools": [TOOL, TOOL]}, None),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x", "name": "Bo"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
        ({"messages": QUESTION * 1025}, "messages"),
        ({"model": "x" * 10_000}, "model"),
        ({"whatever": 1}, "whatever"),
    ],
)  # fmt: skip
async def test_fields_out_of_bounds_are_named(fields: dict[str, Any], param: str | None) -> None:
    async with app() as (client, engine):
        response = await chat(client, **fields)
    error = response.json()["error"]
    assert response.status_code in (400, 404)
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"] or "").split(".")[0] == (param or "")
    assert len(error["message"]) < 600
    assert engine.seen == []


RAW = {
    "not JSON": b'{"model": "faq"',
    "not an object": b"[]",
    "NaN": b'{"model": "faq", "messages": [], "temperature": NaN}',
    "Infinity": b'{"model": "faq", "messages": [], "temperature": -Infinity}',
    "deep": b'{"messages":' + b"[" * 200_000,
    "deep and closed": b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not UTF-8": b'{"model": "\xff"}',
    "UTF-16": '{"model": "faq"}'.encode("utf-16"),
    "half a surrogate pair": b'{"model": "faq", "messages": [{"role": "user", "content": "\\ud800"}]}',
    "half of one in a schema": b'{"model": "faq", "messages": [], "response_format": {"\\udfff": 1}}',
    "an endless number": b'{"seed": ' + b"9" * 5000 + b"}",
    "many fields": json.dumps({str(at): 1 for at in range(65)}).encode(),
}


@pytest.mark.parametrize("name", RAW)
async def test_bodies_that_are_not_what_they_should_be(name: str) -> None:
    async with app() as (client, engine):
        response = await client.post("/v1/chat/completions", content=RAW[name])
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_json"
    assert engine.seen == []


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model": "faq", "model": "sailor", "messages": []}',
        b'{"model": "faq", "messages": [{"role": "user", "role": "system", "content": "x"}]}',
    ],
)
async def test_a_field_that_stands_twice_is_refused_at_any_depth(raw: bytes) -> None:
    async with app() as (client, _):
        error = (await client.post("/v1/chat/completions", content=raw)).json()["error"]
    assert error["code"] == "duplicate_field"
    assert error["param"] in ("model", "role")


async def test_a_prompt_longer_than_the_context_is_refused_and_says_so() -> None:
    async with app(context_length=64) as (client, engine):
        for text in ("word " * 100, "x" * 100_000):
            response = await chat(client, messages=[{"role": "user", "content": text}])
            assert response.json()["error"]["code"] == "context_length_exceeded"
        body = {"model": "faq", "prompt": list(range(5, 70))}
        raw = await client.post("/v1/completions", json=body)
        assert raw.json()["error"]["param"] == "prompt"
    assert engine.seen == []


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x", "suffix": "y"},
        {"prompt": "x", "echo": True, "logprobs": 1},
        {"prompt": "x", "best_of": 1, "n": 2},
        {"prompt": "x", "best_of": 2, "stream": True},
        {"prompt": ["x"] * 17},
        {"prompt": ["x"] * 16, "n": 8},
        {"prompt": ["x", [1]], "n": 9},
        {"prompt": []},
        {"prompt": ""},
        {"prompt": [[]]},
        {"prompt": [-1]},
        {"prompt": [10**6]},
        {"prompt": None},
    ],
)
async def test_completions_that_cannot_be_are_refused(body: dict[str, Any]) -> None:
    async with app() as (client, engine):
        response = await client.post("/v1/completions", json={"model": "faq"} | body)
    assert response.status_code == 400
    assert engine.seen == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from([*ChatRequest.model_fields, *refused.CHAT, "x"])


@settings(max_examples=300, deadline=None)
@given(body=st.dictionaries(NAMES, JSON, max_size=6))
def test_whatever_comes_is_a_request_or_refused_in_openais_shape(body: dict[str, Any]) -> None:
    try:
        assert isinstance(_parse(json.dumps(body).encode(), ChatRequest), ChatRequest)
    except ApiError as error:
        assert error.status == 400
        assert set(error.body["error"]) == {"message", "type", "param", "code"}


async def test_schemas_that_are_large_together_are_refused_before_they_are_read() -> None:
    parameters = {"type": "object", "properties": {"a": {"enum": ["x" * 60_000]}}}
    tools = [
        {"type": "function", "function": {"name": f"f{at}", "parameters": parameters}} for at in range(20)
    ]
    async with app() as (client, engine):
        error = (await chat(client, tools=tools)).json()["error"]
    assert error["param"] == "tools"
    assert engine.seen == []
