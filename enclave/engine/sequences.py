"""What the scheduler moves: sequences of tokens to be continued, texts to be embedded. Imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .interface import EmbeddingRequest, GenerationRequest, Priority

HEAD_START = {Priority.PREMIUM: 0.0, Priority.STANDARD: 30.0, Priority.BASIC: 60.0}
"""Seconds that a request must have waited longer to outrank one of a higher priority."""


@dataclass(slots=True, eq=False)
class Sequence:
    """A request and how far it is: `tokens` is prompt and answer, of which `computed` are in the cache.

    `rank` is fixed at arrival: whoever has the lower one keeps its memory. `keys` name its full blocks for
    others of the same share; `rules` is what the engine needs to choose its next token.
    """

    request: GenerationRequest
    rank: float
    rules: Any = None
    tokens: list[int] = field(default_factory=list, repr=False)
    blocks: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list, repr=False)
    computed: int = 0

    def __post_init__(self) -> None:
        self.tokens = list(self.request.prompt)

    @property
    def remaining(self) -> int:
        """Tokens that the model has not read yet; 1 while it decodes."""
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.request.prompt)


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A text to be embedded, whole and in one step."""

    request: EmbeddingRequest
    rank: float


@dataclass(frozen=True, slots=True)
class Piece:
    """`count` tokens of a sequence from position `start`, to be read in one step."""

    sequence: Sequence
    start: int
    count: int

    @property
    def samples(self) -> bool:
        """Whether the piece reaches the end of what is known, so that a next token is chosen."""
        return self.start + self.count == len(self.sequence.tokens)

    @property
    def tokens(self) -> list[int]:
        return self.sequence.tokens[self.start : self.start + self.count]


Erase = Callable[[list[int]], None]
