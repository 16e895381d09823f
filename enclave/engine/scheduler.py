"""Who runs in the next step: a token budget, key-value blocks, first come first served. Imports no torch.

A running request owns all the blocks it can ever need, so nothing that has begun can run out of memory.
Requests that decode go first, one token each; what the budget leaves goes to prompts, in pieces.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .interface import EngineOptions, GenerationRequest, InvalidRequest, Overloaded, PromptTooLong


@dataclass(slots=True, eq=False)
class Sequence:
    """A request and how far it is: `tokens` is prompt and answer, of which `computed` are in the cache."""

    request: GenerationRequest
    draw: Callable[[], float]
    tokens: list[int] = field(repr=False)
    blocks: list[int] = field(default_factory=list)
    computed: int = 0

    @property
    def remaining(self) -> int:
        """Tokens that the model has not read yet; 1 while it decodes."""
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.request.prompt)


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


class Scheduler:
    """Queue, running rows and the free blocks. Block 0 is never lent: it pads short rows and stays zero."""

    def __init__(self, options: EngineOptions, context_length: int) -> None:
        self._options = options
        self._context_length = context_length
        self.blocks = options.kv_tokens // options.block_tokens
        self._free = list(range(self.blocks, 0, -1))
        self._waiting: deque[Sequence] = deque()
        self._running: dict[str, Sequence] = {}

    def __iter__(self) -> Iterator[Sequence]:
        yield from self._running.values()
        yield from self._waiting

    def __len__(self) -> int:
        return len(self._running) + len(self._waiting)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def blocks_used(self) -> int:
        return self.blocks - len(self._free)

    def add(self, request: GenerationRequest, draw: Callable[[], float]) -> None:
        """Queue a request. Raises PromptTooLong, Overloaded, InvalidRequest (an id in use)."""
        total = len(request.prompt) + request.max_tokens
        if total > self._context_length:
            raise PromptTooLong(
                f"{len(request.prompt)} prompt tokens and {request.max_tokens} answer tokens exceed "
                f"the context of {self._context_length}: shorten the prompt or lower max_tokens"
            )
        if any(sequence.request.id == request.id for sequence in self):
            raise InvalidRequest("a request with this id is already here")
        if len(self._waiting) >= self._options.max_waiting:
            raise Overloaded(f"{len(self._waiting)} requests are waiting already: try again later")
        self._waiting.append(Sequence(request, draw, list(request.prompt)))

    def schedule(self) -> list[Piece]:
        """Admit who fits, then fill the step's budget: decoding rows first, then prompts in order."""
        self._admit()
        budget = self._options.step_tokens
        pieces = []
        for sequence in sorted(self._running.values(), key=lambda s: s.remaining > 1):
            count = min(sequence.remaining, budget)
            if count:
                pieces.append(Piece(sequence, sequence.computed, count))
            budget -= count
        return pieces

    def remove(self, request_id: str) -> Sequence | None:
        """Take a request out and its blocks back; the caller overwrites `blocks` of what is returned."""
        sequence = self._running.pop(request_id, None)
        if sequence is not None:
            self._free.extend(reversed(sequence.blocks))
            return sequence
        for sequence in self._waiting:
            if sequence.request.id == request_id:
                self._waiting.remove(sequence)
                return sequence
        return None

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._options.max_rows:
            request = self._waiting[0].request
            # The last token is never fed back, so its key and value are never stored.
            needed = -(-(len(request.prompt) + request.max_tokens - 1) // self._options.block_tokens)
            if needed > len(self._free):
                return
            sequence = self._waiting.popleft()
            sequence.blocks = [self._free.pop() for _ in range(needed)]
            self._running[request.id] = sequence
