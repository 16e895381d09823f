"""How a model writes a call of a function, and how it is told which there are.

A model whose chat template takes tools writes them as it was trained to; any other model is told in its
prompt, in the form of `TAGGED`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Turn = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolForm:
    """A call is `opening`, a JSON object of name and `arguments_key`, `closing`; `between` parts calls."""

    opening: str
    closing: str
    between: str
    arguments_key: str

    def around(self, name: str) -> tuple[str, str]:
        """What stands before and after a call's arguments, within opening and closing."""
        return f'{{"name": {json.dumps(name)}, "{self.arguments_key}": ', "}"

    def call(self, name: str, arguments: str) -> str:
        """A whole call."""
        before, after = self.around(name)
        return f"{self.opening}{before}{arguments}{after}{self.closing}"


TAGGED: Final = ToolForm(
    opening="<tool_call>\n", closing="\n</tool_call>", between="\n", arguments_key="arguments"
)
"""As Hermes and Qwen write calls, and as every model is told to whose template takes no tools."""

BARE: Final = ToolForm(opening="", closing="", between="; ", arguments_key="parameters")
"""As Llama 3 writes calls: the answer is the object."""

_INSTRUCTION: Final = """You can call functions. These are their definitions, one JSON object a line:
{definitions}
To call one, answer with nothing but its name and arguments, in this form:
<tool_call>
{{"name": "...", "arguments": {{...}}}}
</tool_call>"""


def form_of(template: str | None) -> ToolForm | None:
    """The form in which a chat template teaches calls; None if it takes no tools, or in another form."""
    if template is None or not re.search(r"\btools\b", template):
        return None
    if "<tool_call>" in template:
        return TAGGED
    return BARE if '"parameters"' in template and "<|python_tag|>" in template else None


def told(turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """`turns` for a template without tools: definitions in the system message or before the first turn.

    Calls become text of the assistant's, results the user's.
    """
    definitions = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    plain = as_text(turns)
    return instructed(plain, _INSTRUCTION.format(definitions=definitions)) if tools else plain


def instructed(turns: Sequence[Turn], words: str) -> list[Turn]:
    """`turns` with `words` at the end of the system message, or before the first turn if there is none."""
    first = turns[0]
    parts = [first["content"], words] if first["role"] == "system" else [words, first["content"]]
    return [{**first, "content": "\n\n".join(part for part in parts if part)}, *turns[1:]]


def as_text(turns: Sequence[Turn]) -> list[Turn]:
    """`turns` without calls and results, which stand in the texts instead."""
    plain: list[Turn] = []
    for turn in turns:
        if turn["role"] == "tool":
            content = f"<tool_response>\n{turn['content']}\n</tool_response>"
            if plain and plain[-1].get("results"):
                content = f"{plain.pop()['content']}\n{content}"
            plain.append({"role": "user", "content": content, "results": True})
        else:
            plain.append({"role": turn["role"], "content": _with_calls(turn)})
    return [{"role": turn["role"], "content": turn["content"]} for turn in plain]


def _with_calls(turn: Turn) -> str:
    calls = [
        TAGGED.call(call["function"]["name"], json.dumps(call["function"]["arguments"], ensure_ascii=False))
        for call in turn.get("tool_calls") or ()
    ]
    return "\n".join(part for part in (turn["content"] or "", *calls) if part)
