"""What an answer must match, as llguidance spells grammars. Bounded; refused before any inference.

JSON is written on one line with ", " and ": ", so that an answer cannot go on in white space for ever.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from llguidance import LLMatcher, LLParserLimits

from .json_schema import AnswerSchema, SchemaRefused
from .tool_form import ToolForm

_LAYOUT: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_ANY_TEXT: Final = r"/(.|\n)*/"
MAX_CALLS: Final = 16
MAX_CHARACTERS: Final = 128 * 1024
"""Of a whole grammar; the embedded engine takes no longer one."""
MAX_WORDS: Final = 300


@dataclass(frozen=True, slots=True)
class Function:
    """A function that the model may call: its name, and what its arguments must be."""

    name: str
    arguments: AnswerSchema = field(repr=False)


def limits() -> LLParserLimits:
    """Bounds on compiling and on every mask; errors name no part of the grammar or the answer."""
    return LLParserLimits(
        initial_lexer_fuel=500_000, step_lexer_fuel=100_000, max_grammar_size=100_000, verbose_errors=False
    )


def of_schema(schema: AnswerSchema) -> str:
    """The grammar of a JSON text that matches `schema`."""
    return _lark("%llguidance {}", f"start: {_json(schema)}")


def of_calls(
    functions: Sequence[Function],
    form: ToolForm,
    *,
    required: bool,
    parallel: bool,
    content: AnswerSchema | None = None,
) -> str:
    """The grammar of an answer that calls functions, in the model's own form.

    Unless `required`, the answer may be text instead (or JSON that matches `content`), or text and then
    calls; `parallel` allows up to 16 of them.
    """
    again = f" ({_text(form.between + form.opening)} body){{0,{MAX_CALLS - 1}}}" if parallel else ""
    body = f"({' | '.join(f'call_{at}' for at in range(len(functions)))}) {_text(form.closing)}".strip()
    return _lark(
        "%llguidance {}",
        *_start(form, required, content),
        f"calls: body{again}",
        f"body: {body}",
        *(f"call_{at}: {_call(function, form)}" for at, function in enumerate(functions)),
    )


def check(schema: AnswerSchema) -> None:
    """SchemaRefused for a schema that llguidance does not compile within the limits."""
    failed, words = LLMatcher.validate_grammar_with_warnings(of_schema(schema), limits=limits())
    if failed:
        reason = " ".join(words).partition("\n")[0].rpartition("failed to compile JSON schema: ")[2]
        raise SchemaRefused("", reason[:MAX_WORDS])


def _lark(*rules: str) -> str:
    return json.dumps({"grammars": [{"lark_grammar": "\n".join(rules) + "\n"}]})


def _start(form: ToolForm, required: bool, content: AnswerSchema | None) -> list[str]:
    if required:
        return [f"start: {_text(form.opening)} calls".replace("  ", " ")]
    if content is not None:
        return [f"start: {_json(content)} | {_text(form.opening)} calls"]
    if not form.opening:
        return ["start: TEXT | calls", r"TEXT: /([^{](.|\n)*)?/"]
    return ["start: TEXT | head calls", f"head[lazy]: TEXT {_text(form.opening)}", f"TEXT: {_ANY_TEXT}"]


def _call(function: Function, form: ToolForm) -> str:
    before, after = form.around(function.name)
    return f"{_text(before)} {_json(function.arguments)} {_text(after)}"


def _json(schema: AnswerSchema) -> str:
    value: dict[str, Any] = schema.schema if isinstance(schema.schema, dict) else {"allOf": [schema.schema]}
    return "%json " + json.dumps(value | {"x-guidance": _LAYOUT})


def _text(text: str) -> str:
    return json.dumps(text) if text else ""
