"""Answers with a shape: masked, or validated and asked for again; calls of functions."""

import json
from pathlib import Path
from typing import Any

import pytest

from enclave.engine.interface import GenerationRequest
from enclave.text import TextModel
from tests.api.scripted import Scripted, answers, app, chat, deltas, events
from tests.engine import tokenizers_made

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA, "strict": True}}
TOOLS = [
    {"type": "function", "function": {"name": "book", "description": "Books.", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "cancel"}},
]
GOOD = '{"city": "Rome", "days": 3}'


def call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


async def test_a_schema_becomes_a_grammar_and_the_answer_is_checked() -> None:
    async with app(says=answers(GOOD)) as (client, engine):
        answer = (await chat(client, response_format=FORMAT)).json()
    assert json.loads(answer["choices"][0]["message"]["content"]) == json.loads(GOOD)
    assert "lark_grammar" in (engine.seen[0].grammar or "")  # type: ignore[union-attr]
    async with app(says=answers('{"city": "Rome"}')) as (client, _):
        wrong = await chat(client, response_format=FORMAT)
        stream = await events(
            client,
            "/v1/chat/completions",
            {"model": "faq", "messages": [{"role": "user", "content": "Hi"}], "response_format": FORMAT},
        )
    assert wrong.status_code == 500
    assert "error" in stream[-1]


async def test_without_masks_the_validators_words_go_back_to_the_model() -> None:
    says = answers("Rome, I guess.", '```json\n{"city": "Rome", "days": 0}\n```', GOOD)
    async with app(says=says, grammars=False) as (client, engine):
        answer = (await chat(client, response_format=FORMAT)).json()
    assert answer["choices"][0]["message"]["content"] == GOOD
    first, second, third = engine.prompts
    assert '"minimum": 1' in first
    assert "Rome, I guess." in second
    assert "it is not JSON" in second
    assert "/days: 0 is less than the minimum of 1" in third
    assert all(request.grammar is None for request in engine.seen if isinstance(request, GenerationRequest))
    assert answer["usage"]["completion_tokens"] > len(engine.text.encode(GOOD))


async def test_without_masks_three_wrong_answers_are_an_error_in_the_validators_words() -> None:
    async with app(says=answers("no"), grammars=False) as (client, engine):
        response = await chat(client, response_format={"type": "json_object"})
    assert response.status_code == 422
    assert "not JSON" in response.json()["error"]["message"]
    assert len(engine.seen) == 3


@pytest.mark.parametrize("masks", [True, False])
async def test_calls_of_functions(masks: bool) -> None:
    says = answers("I book.\n" + call("book", GOOD) + "\n" + call("cancel", "{}"))
    async with app(says=says, grammars=masks) as (client, engine):
        choice = (await chat(client, tools=TOOLS)).json()["choices"][0]
        body = {"model": "faq", "messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS}
        chunks = await events(client, "/v1/chat/completions", body)
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I book."
    functions = [call["function"] for call in choice["message"]["tool_calls"]]
    assert functions == [{"name": "book", "arguments": GOOD}, {"name": "cancel", "arguments": "{}"}]
    assert "Books." in engine.prompts[0]
    calls: dict[int, dict[str, str]] = {}
    for delta in deltas(chunks):
        for piece in delta.get("tool_calls", ()):
            if "id" in piece:
                assert piece["type"] == "function"
                calls[piece["index"]] = {"name": piece["function"]["name"], "arguments": ""}
            calls[piece["index"]]["arguments"] += piece["function"]["arguments"]
    assert list(calls.values()) == functions
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("choice", "text", "complaint"),
    [
        ("required", "no", "no function was called"),
        ({"type": "function", "function": {"name": "cancel"}}, call("book", GOOD), "there is no function"),
        ("auto", call("book", '{"city": 1, "days": 1}'), "arguments of book: /city"),
        ("auto", '<tool_call>\n{"nothing": 1}\n</tool_call>' + "x" * 600, "does not begin with its name"),
    ],
)
async def test_calls_that_do_not_fit_are_named(choice: Any, text: str, complaint: str) -> None:
    async with app(says=answers(text), grammars=False) as (client, _):
        response = await chat(client, tools=TOOLS, tool_choice=choice)
    assert response.status_code == 422
    assert complaint in response.json()["error"]["message"]


async def test_tool_choice_none_and_allowed_tools_narrow_what_is_told() -> None:
    allowed = [{"type": "function", "function": {"name": "cancel"}}]
    narrowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": allowed}}
    async with app() as (client, engine):
        assert (await chat(client, tools=TOOLS, tool_choice="none")).status_code == 200
        assert (await chat(client, tools=TOOLS, tool_choice=narrowed)).status_code == 200
    assert "book" not in engine.prompts[0] + engine.prompts[1]
    assert "cancel" in engine.prompts[1]


async def test_earlier_calls_and_their_results_reach_a_model_without_tools_as_text() -> None:
    history = [
        {"role": "user", "content": "Book Rome."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "book", "arguments": GOOD}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "booked"},
        {"role": "tool", "tool_call_id": "call_1", "content": "paid"},
    ]
    async with app() as (client, engine):
        assert (await chat(client, messages=history, tools=TOOLS)).status_code == 200
    assert call("book", GOOD) in engine.prompts[0]
    assert "<tool_response>\nbooked\n</tool_response>\n<tool_response>\npaid" in engine.prompts[0]


async def test_a_template_that_takes_tools_is_given_them(tmp_path: Path) -> None:
    directory = tokenizers_made.save_tools(tmp_path)
    engine = Scripted(TextModel(directory), answers(call("cancel", "{}")))
    async with app(engine) as (client, _):
        choice = (await chat(client, tools=TOOLS)).json()["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "cancel"
    assert "# Tools" in engine.prompts[0]
    assert "You can call functions." not in engine.prompts[0]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}},
         "response_format.json_schema.schema", "at /not: 'not' cannot be honoured"),
        ({"tools": [TOOLS[1], {"type": "function", "function": {"name": "x", "parameters": {
            "properties": {"a": {"$ref": "#/properties/a"}}}}}]},
         "tools.1.function.parameters", "recursion"),
        ({"tools": [{"type": "function", "function": {"name": "x", "parameters": {"type": "array"}}}]},
         "tools.0.function.parameters", "/type"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
         "tool_choice", "not among"),
        ({"tools": TOOLS, "logprobs": True}, "logprobs", "combined"),
        ({"tools": TOOLS, "tool_choice": "required", "stop": "x"}, "stop", "shape"),
        ({"response_format": FORMAT, "stop": "x"}, "stop", "shape"),
    ],
)  # fmt: skip
async def test_a_shape_that_cannot_be_honoured_is_refused_before_inference(
    fields: dict, param: str, words: str
) -> None:
    async with app() as (client, engine):
        response = await chat(client, **fields)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert words in error["message"]
    assert engine.seen == []
