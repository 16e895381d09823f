"""A conversation to the text and token ids that a model was trained on, by the model's own chat template.

The template runs in jinja2's immutable sandbox with bounded output, ranges and repetition. Control tokens
come from the template alone: if a message contains the text of one ("<|im_end|>"), that text is marked
before rendering and encoded as ordinary characters, so that a message cannot end its turn or open another.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Unicode noncharacters: never assigned, dropped from messages, so that nobody can forge a mark.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
MAX_CHARACTERS = 4_000_000
_MAX_ITERATIONS = 100_000


class UnsupportedChat(Exception):
    """This conversation cannot be rendered for this model; the message says why."""


class ChatTemplate:
    """A compiled chat template. `control` are the control tokens' texts. Raises UnsupportedChat."""

    def __init__(
        self,
        source: str,
        variables: Mapping[str, str],
        control: Iterable[str],
        clock: Callable[[], datetime],
    ) -> None:
        self._variables = dict(variables)
        environment = _Sandbox(
            clock, trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise UnsupportedChat(f"the model's chat template does not compile: {error}") from error
        longest_first = sorted(control, key=len, reverse=True)
        tokens = "|".join(map(re.escape, longest_first)) or "(?!)"
        self._control = re.compile(tokens)
        self._marked = re.compile(f"{_OPEN}({tokens}){_CLOSE}|[{_OPEN}{_CLOSE}]")

    def render(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> list[tuple[str, bool]]:
        """Pieces of text, each with whether it is a control token's text that a message wrote.

        Without such text in any message there is one piece. Raises UnsupportedChat.
        """
        if not messages:
            raise UnsupportedChat("the conversation has no messages")
        present = [
            {key: value for key, value in message.items() if value is not None} for message in messages
        ]
        values = {"tools": None, "documents": None, "add_generation_prompt": True, **self._variables}
        values |= {name: self._mark(value) for name, value in variables.items()}
        text = self._rendered(messages=self._mark(present), range=_bounded_range(), **values)
        parts = self._marked.split(text)
        # Text and marked token alternate; a mark that the template parted from its token gives None.
        pieces = [(part, at % 2 == 1) for at, part in enumerate(parts) if part]
        return pieces or [("", False)]

    def _rendered(self, **values: Any) -> str:
        parts: list[str] = []
        room = MAX_CHARACTERS
        try:
            for part in self._template.generate(values):
                parts.append(part)
                room -= len(part)
                if room < 0:
                    raise UnsupportedChat("the rendered conversation is too long")
        except jinja2.TemplateError as error:
            raise UnsupportedChat(f"the model's chat template refuses this conversation: {error}") from error
        except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
            raise UnsupportedChat(f"the model's chat template fails on this conversation: {error}") from error
        return "".join(parts)

    def _mark(self, value: Any) -> Any:
        """A plain copy in which every control token's text stands between marks."""
        if isinstance(value, str):
            plain = value.replace(_OPEN, "").replace(_CLOSE, "")
            return self._control.sub(f"{_OPEN}\\g<0>{_CLOSE}", plain)
        if isinstance(value, Mapping):
            return {str(key): self._mark(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._mark(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        raise UnsupportedChat(f"a message holds a {type(value).__name__}, which is not JSON")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox, where repetition cannot make a string of any length."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, clock: Callable[[], datetime], **options: Any) -> None:
        super().__init__(autoescape=False, **options)  # a prompt is not a page
        self.filters["tojson"] = _to_json
        self.globals.update(raise_exception=_refuse, strftime_now=lambda form: clock().strftime(form))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = _is_number(left) and _is_number(right)
        repeats = operator == "*" and _size(left) * _size(right) <= MAX_CHARACTERS
        if not (repeats or (numbers and operator != "**")):
            raise SecurityError(f"a chat template may not use {operator} like this")
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}`, which marks answers for training, is its body."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it a class attribute)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, ensure_ascii: bool = False, **layout: Any) -> str:
    known = {name: layout[name] for name in ("indent", "separators", "sort_keys") if name in layout}
    return json.dumps(value, ensure_ascii=ensure_ascii, **known)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _bounded_range() -> Callable[..., Iterable[int]]:
    """`range` with one allowance for a whole rendering, however its loops are nested."""
    allowance = iter(range(_MAX_ITERATIONS))

    def bounded(*bounds: int) -> list[int]:
        wanted = range(*bounds)
        if len(wanted) > _MAX_ITERATIONS or sum(1 for _ in islice(allowance, len(wanted))) < len(wanted):
            raise SecurityError("a chat template loops too often")
        return list(wanted)

    return bounded


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _size(value: Any) -> int:
    """A sequence's length, or how often a number would repeat one."""
    return len(value) if isinstance(value, Sequence) else max(int(value), 0) if _is_number(value) else 1
