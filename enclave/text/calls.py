"""An answer's text to content and calls of functions, as it arrives. Reads what `grammar` lets through."""

import json
import re
from dataclasses import dataclass, field
from typing import Final

from .tool_form import ToolForm

MAX_HEAD: Final = 512
_HEAD = re.compile(
    r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*', re.DOTALL
)


class BrokenCall(Exception):
    """A call that began and is not in its form."""


@dataclass(frozen=True, slots=True)
class Content:
    """Text of the answer itself."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CallOpened:
    """The answer's call number `index` begins, of function `name`."""

    index: int
    name: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A piece of the JSON text of a call's arguments."""

    index: int
    text: str = field(repr=False)


Part = Content | CallOpened | CallArguments


class CallReader:
    """One answer. `push` its text piece by piece, then `flush`. Raises BrokenCall.

    Where the form has no opening (`tool_form.BARE`), an answer that begins with a brace is a call.
    """

    def __init__(self, form: ToolForm) -> None:
        self._mark = form.opening.strip()
        self._end = form.closing.strip()
        self._between = form.between.strip()
        self._held = ""
        self._state = self._content if self._mark else self._undecided
        self._scan = _Object()
        self._count = 0

    @property
    def called(self) -> bool:
        """Whether a call began."""
        return self._count > 0

    def push(self, text: str) -> list[Part]:
        """What this text adds."""
        self._held += text
        parts: list[Part] = []
        while self._state(parts):
            pass
        return parts

    def flush(self, *, cut: bool) -> list[Part]:
        """What was held back, at the end of an answer. BrokenCall if a call is not whole, unless `cut`."""
        held, self._held = self._held, ""
        if self._state in (self._content, self._undecided):
            return [Content(held)] if held else []
        if self._state != self._next and not cut:
            raise BrokenCall("a call is not whole")
        return []

    def _undecided(self, parts: list[Part]) -> bool:
        if not (begun := self._held.lstrip()):
            return False
        self._state = self._head if begun.startswith("{") else self._content
        return True

    def _content(self, parts: list[Part]) -> bool:
        """Text until the mark; what could begin one, and white space before it, is held back."""
        at = self._held.find(self._mark) if self._mark else -1
        if at >= 0:
            self._give(parts, self._held[:at].rstrip())
            self._held = self._held[at + len(self._mark) :]
            self._state = self._head
            return True
        keep = _overlap(self._held, self._mark)
        cut = len(self._held[: len(self._held) - keep].rstrip()) if self._mark else len(self._held)
        self._give(parts, self._held[:cut])
        self._held = self._held[cut:]
        return False

    def _give(self, parts: list[Part], text: str) -> None:
        if text:
            parts.append(Content(text))

    def _head(self, parts: list[Part]) -> bool:
        found = _HEAD.match(self._held)
        if found is None:
            if len(self._held) > MAX_HEAD:
                raise BrokenCall("a call does not begin with its name")
            return False
        # A head that ends the text may go on in white space.
        if found.end() == len(self._held):
            return False
        try:
            name = json.loads(found[1])
        except ValueError:
            raise BrokenCall("a call's name is not JSON") from None
        parts.append(CallOpened(self._count, name))
        self._count += 1
        self._held = self._held[found.end() :]
        self._scan, self._state = _Object(), self._arguments
        return True

    def _arguments(self, parts: list[Part]) -> bool:
        length = self._scan.feed(self._held)
        if length:
            parts.append(CallArguments(self._count - 1, self._held[:length]))
        self._held = self._held[length:]
        if not self._scan.closed:
            return False
        self._state = self._tail
        return True

    def _tail(self, parts: list[Part]) -> bool:
        """After the arguments: the object's brace and the closing; then perhaps another call."""
        wanted = "}" + self._end
        left = "".join(self._held.split())
        if not left.startswith(wanted):
            if not wanted.startswith(left):
                raise BrokenCall("a call does not end after its arguments")
            return False
        self._held = _after(self._held, wanted)
        self._state = self._next
        return True

    def _next(self, parts: list[Part]) -> bool:
        mark = self._between + self._mark
        held = self._held.lstrip()
        if held and held.startswith(mark):
            self._held = held[len(mark) :]
            self._state = self._head
            return True
        if held and not mark.startswith(held):
            raise BrokenCall("text follows a call")
        return False


class _Object:
    """Finds where a JSON object ends."""

    def __init__(self) -> None:
        self._depth = 0
        self._string = self._escaped = False
        self.closed = False

    def feed(self, text: str) -> int:
        """How many characters of `text` belong to it."""
        for at, character in enumerate(text):
            if self._string:
                self._in_string(character)
            elif character == '"':
                self._string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
            if self._depth <= 0 and not self._string:
                if character not in "}]":
                    raise BrokenCall("a call's arguments are not an object")
                self.closed = True
                return at + 1
        return len(text)

    def _in_string(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._string = False


def _after(text: str, wanted: str) -> str:
    """What follows `wanted` in `text`, white space between its characters aside."""
    at = 0
    for character in wanted:
        while text[at] != character:
            at += 1
        at += 1
    return text[at:]


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` that begins `mark`."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:n])), 0)
