"""Text cut into passages that can be quoted: a file, the lines, the words as they stand there."""

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_PASSAGE = 1200


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Lines `first` to `last` (from 1) of the file `path`, verbatim."""

    path: str
    first: int
    last: int
    text: str = field(repr=False)


def passages(path: str, text: str) -> Iterator[Passage]:
    """The paragraphs of a file; those of more than 1200 characters in pieces of whole lines."""
    lines: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        ends = not line.strip()
        if lines and (ends or sum(map(len, lines)) + len(line) > MAX_PASSAGE):
            yield _passage(path, number - len(lines), lines)
            lines = []
        if not ends:
            lines.append(line)


def _passage(path: str, first: int, lines: list[str]) -> Passage:
    return Passage(path=path, first=first, last=first + len(lines) - 1, text="\n".join(lines))
