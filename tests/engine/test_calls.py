"""Calls of functions in a model's own form: grammars, and the reader of what they let through."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.text.calls import BrokenCall, CallArguments, CallOpened, CallReader, Content, Part
from enclave.text.grammar import Function, of_calls
from enclave.text.json_schema import accept
from enclave.text.tool_form import BARE, TAGGED, ToolForm, form_of
from tests.engine.test_json_schema import matches
from tests.engine.tokenizers_made import LLAMA3, QWEN, TOOLS

ADD = Function(
    "add",
    accept({"type": "object", "properties": {"x": {"type": "integer"}}, "additionalProperties": False}),
)
ANY = Function("any-thing", accept({"type": "object"}))


def read(form: ToolForm, text: str, step: int, *, cut: bool = False) -> list[Part]:
    reader = CallReader(form)
    parts = [part for at in range(0, len(text), step) for part in reader.push(text[at : at + step])]
    return parts + reader.flush(cut=cut)


def parted(parts: list[Part]) -> tuple[str, list[tuple[str, str]]]:
    content = "".join(part.text for part in parts if isinstance(part, Content))
    names = [part.name for part in parts if isinstance(part, CallOpened)]
    arguments = ["" for _ in names]
    for part in parts:
        if isinstance(part, CallArguments):
            arguments[part.index] += part.text
    return content, list(zip(names, arguments, strict=True))


@pytest.mark.parametrize("form", [TAGGED, BARE])
@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("parallel", [True, False])
def test_grammars_let_through_what_was_asked_for(form: ToolForm, required: bool, parallel: bool) -> None:
    grammar = of_calls([ADD, ANY], form, required=required, parallel=parallel)
    one, two = form.call("add", '{"x": 3}'), form.call("any-thing", '{"y": ["}"]}')
    assert matches(grammar, one)
    assert matches(grammar, two)
    assert matches(grammar, one + form.between + two) is parallel
    assert matches(grammar, "Hello") is not required
    assert matches(grammar, "") is not required
    assert not matches(grammar, form.call("add", '{"x": "3"}'))
    assert not matches(grammar, form.call("other", "{}"))
    assert not matches(grammar, one[:-1])
    assert not matches(grammar, one + " and more")
    if form is TAGGED:
        assert matches(grammar, "I add. " + one) is not required


def test_text_or_json_of_a_schema_or_calls() -> None:
    content = accept({"type": "object", "properties": {"z": {"type": "null"}}, "required": ["z"]})
    grammar = of_calls([ADD], TAGGED, required=False, parallel=True, content=content)
    assert matches(grammar, '{"z": null}')
    assert matches(grammar, TAGGED.call("add", "{}"))
    assert not matches(grammar, "Hello")


JSON = st.dictionaries(
    st.text(max_size=5),
    st.recursive(st.none() | st.integers() | st.text(max_size=8), lambda i: st.lists(i, max_size=3)),
    max_size=3,
)
TEXT = st.text(alphabet='ab <>/{}\n"tool_call', max_size=20)


@pytest.mark.parametrize("form", [TAGGED, BARE])
@settings(max_examples=150, deadline=None)
@given(text=TEXT, calls=st.lists(JSON, max_size=3), step=st.integers(1, 40))
def test_what_was_written_is_read_however_it_arrives(
    form: ToolForm, text: str, calls: list[dict], step: int
) -> None:
    if "<tool_call>" in text or (form is BARE and (calls or text.strip().startswith("{"))):
        text = ""
    wanted = [("f", json.dumps(call, ensure_ascii=False)) for call in calls]
    whole = text + form.between.join(form.call(name, arguments) for name, arguments in wanted)
    content, found = parted(read(form, whole, step))
    assert found == wanted
    assert content == (text.rstrip() if calls else text)


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\n{}",
        '<tool_call>\n{"name": "f"}' + " " * 600,
        '<tool_call>\n{"name": "\\x", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": 3}\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": {}]\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call> and more',
        '<tool_call>\n{"name": "f", "arguments": {"a": "',
    ],
)
def test_a_call_out_of_form_is_broken(text: str) -> None:
    for step in (1, 1000):
        with pytest.raises(BrokenCall):
            read(TAGGED, text, step)


def test_a_call_that_was_cut_off_gives_what_there_was() -> None:
    parts = read(TAGGED, 'Hm\n<tool_call>\n{"name": "f", "arguments": {"a": "b', 3, cut=True)
    assert parted(parts) == ("Hm", [("f", '{"a": "b')])


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet='<>/tool_call{}[]":, \\nameargumentsf1\n', max_size=120), step=st.integers(1, 9))
def test_nothing_but_the_named_error_escapes(text: str, step: int) -> None:
    for form in (TAGGED, BARE):
        with contextlib.suppress(BrokenCall):
            read(form, text, step)


def test_forms_are_found_in_templates() -> None:
    assert form_of(TOOLS) is TAGGED
    assert form_of('{% if tools %}<|python_tag|>{"name": x, "parameters": y}{% endif %}') is BARE
    assert form_of(QWEN) is None
    assert form_of(LLAMA3) is None
    assert form_of(None) is None
