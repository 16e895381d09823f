"""Who runs in the next step: a token budget, key-value blocks, shares, ranks. Imports no torch.

- Budget: a step reads at most `step_tokens`. Requests that decode go first, one token each; what is left goes
  to prompts in pieces and to texts, by share (`fairness.Turns`). A text is never cut, so a step that has read
  no prompt yet may exceed the budget by one text.
- Memory: blocks are lent as tokens come. When none is left, whoever ranks lowest gives its blocks back and
  waits, to be read again from the start of what it has (preemption). The highest rank always has its way, and
  since any request alone fits, everything that was accepted ends.
- Rank: arrival, with a head start of seconds for higher priorities. It never changes, so waiting is enough
  to outrank whoever comes later, and two requests cannot take turns at preempting each other.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .blocks import BlockPool
from .fairness import FairQueue, Turns
from .interface import EngineOptions, GenerationRequest, InvalidRequest, Overloaded, Priority, Request
from .sequences import HEAD_START, Piece, Sequence, Text

_QUANTUM = 64
_ANSWER = 32
_LONGEST_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step reads."""

    pieces: list[Piece]
    texts: list[Text]

    @property
    def tokens(self) -> int:
        return sum(piece.count for piece in self.pieces) + sum(
            len(text.request.prompt) for text in self.texts
        )


class Scheduler:
    """Queues, running rows and their blocks. `preemptions` and `spared` (prompt tokens) are totals."""

    def __init__(
        self, options: EngineOptions, pool: BlockPool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = options
        self._pool = pool
        self._clock = clock
        self._turns = Turns(options.premium_share)
        self._waiting: FairQueue[Sequence] = FairQueue()
        self._texts: FairQueue[Text] = FairQueue()
        self._running: list[Sequence] = []
        self._by_id: dict[str, Sequence | Text] = {}
        self._pace: float | None = None
        self._last_end = clock()
        self.preemptions = 0
        self.spared = 0

    def __iter__(self) -> Iterator[Sequence | Text]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def running(self) -> int:
        return len(self._running)

    def waiting(self, priority: Priority) -> int:
        """How many requests of a priority have not begun, or were preempted."""
        return self._waiting.count(priority) + self._texts.count(priority)

    def check(self, request: Request) -> None:
        """Raise Overloaded or InvalidRequest (an id in use) if the request cannot be added now."""
        if request.id in self._by_id:
            raise InvalidRequest("a request with this id is already here")
        kept = self._options.max_waiting * self._options.premium_share // 100
        premium = request.priority is Priority.PREMIUM
        ahead = [self.waiting(p) for p in Priority if premium or p is not Priority.PREMIUM]
        if sum(ahead) >= self._options.max_waiting - (0 if premium else kept):
            raise Overloaded(
                f"{sum(ahead)} requests are waiting already: try again later", self._estimate(sum(ahead))
            )

    def add(self, request: Request, rules: object = None) -> None:
        """Queue a request that `check` has let through."""
        rank = self._clock() + HEAD_START[request.priority]
        if isinstance(request, GenerationRequest):
            sequence = Sequence(request, rank, rules)
            self._by_id[request.id] = sequence
            self._waiting.push(sequence)
        else:
            text = Text(request, rank)
            self._by_id[request.id] = text
            self._texts.push(text)

    def schedule(self) -> Batch:
        """Admit who fits and fill the step's budget. Texts in the batch have left the queue."""
        self._attend()
        self._admit()
        budget = self._options.step_tokens
        pieces: list[Piece] = []
        reading: dict[Priority, list[Sequence]] = {}
        for sequence in list(self._running):
            if sequence.remaining > 1:
                reading.setdefault(sequence.request.priority, []).append(sequence)
            elif self._holds(sequence) and self._grow(sequence, 1):
                pieces.append(Piece(sequence, sequence.computed, 1))
                self._turns.charge(sequence.request.priority, 1)
        texts: list[Text] = []
        if reading or len(self._texts):
            granted = self._divide(budget - len(pieces), reading, texts)
            pieces += self._prompt_pieces(granted)
        return Batch([piece for piece in pieces if self._holds(piece.sequence)], texts)

    def advance(self, pieces: list[Piece]) -> None:
        """Count what a step has read; blocks that became full are published to their share."""
        for piece in pieces:
            sequence = piece.sequence
            sequence.computed = piece.start + piece.count
            if sequence.request.share is not None:
                self._publish(sequence)

    def remove(self, request_id: str) -> Sequence | Text | None:
        """Take a request out; its blocks go back at once. None if it is not here."""
        item = self._by_id.pop(request_id, None)
        if item is None:
            return None
        if isinstance(item, Text):
            if item in self._texts:
                self._texts.remove(item)
        elif self._holds(item):
            self._running.remove(item)
            self._pool.release(item.blocks)
            item.blocks = []
        else:
            self._waiting.remove(item)
        return item

    def ended(self, count: int) -> None:
        """Note that requests have ended: the pace tells others how long they would wait."""
        now = self._clock()
        gap, self._last_end = (now - self._last_end) / count, now
        self._pace = gap if self._pace is None else 0.9 * self._pace + 0.1 * gap

    def _estimate(self, ahead: int) -> float:
        return min(max(1.0, ahead * (self._pace or 0.0)), _LONGEST_WAIT)

    def _attend(self) -> None:
        present = {priority for priority in Priority if self.waiting(priority)}
        present.update(sequence.request.priority for sequence in self._running)
        self._turns.attend(present)

    def _holds(self, sequence: Sequence) -> bool:
        """Whether it is running: a step's preemptions take some out again."""
        return bool(sequence.blocks)

    def _admit(self) -> None:
        """By turn, and nobody passes whoever has it: what is too big for now gets its place in time.

        A row counts as an answer of so many tokens as soon as it begins, or one priority would take all.
        """
        if not len(self._waiting):
            return
        ahead = Counter[Priority]()
        for sequence in self._running:
            ahead[sequence.request.priority] += _ANSWER
        while True:
            ready = [priority for priority in Priority if self._waiting.count(priority)]
            if not ready:
                return
            priority = self._turns.first(ready, ahead)
            newcomer = self._waiting.peek(priority)
            if newcomer is None or not (self._fits(newcomer) or self._make_room(newcomer)):
                return
            self._waiting.pop(priority)
            self._start(newcomer)
            ahead[priority] += _ANSWER

    def _fits(self, sequence: Sequence) -> bool:
        if len(self._running) >= self._options.max_rows or not self._adapter_fits(sequence):
            return False
        # One spare block for each row that runs, or it would soon be preempted by them.
        needed = self._pool.blocks_for(len(sequence.tokens)) + len(self._running)
        return needed <= self._pool.available

    def _adapter_fits(self, sequence: Sequence) -> bool:
        adapter = sequence.request.adapter
        if adapter is None:
            return True
        names = {other.request.adapter for other in self._running} - {None}
        return adapter in names or len(names) < self._options.resident_adapters

    def _make_room(self, sequence: Sequence) -> bool:
        """Preempt lower ranks for a premium request while premium has less than half of its reserved rows."""
        if sequence.request.priority is not Priority.PREMIUM or not self._adapter_fits(sequence):
            return False
        reserved = self._options.max_rows * self._options.premium_share // 100
        rows = sum(other.request.priority is Priority.PREMIUM for other in self._running)
        while 2 * rows < reserved and not self._fits(sequence):
            lowest = self._running[-1]
            if lowest.rank < sequence.rank or lowest.request.priority is Priority.PREMIUM:
                return False
            self._preempt(lowest)
        return self._fits(sequence)

    def _start(self, sequence: Sequence) -> None:
        """Give it the blocks that its share has read already, and one more."""
        sequence.computed, sequence.keys = 0, []
        if sequence.request.share is not None:
            self._reuse(sequence)
        sequence.blocks += self._pool.take(1)
        at = next((i for i, other in enumerate(self._running) if other.rank > sequence.rank), None)
        self._running.insert(len(self._running) if at is None else at, sequence)

    def _reuse(self, sequence: Sequence) -> None:
        """Hold published blocks from the start on; at least one token is left to be read."""
        size, share = self._pool.block_tokens, sequence.request.share or b""
        key = self._pool.root(share, sequence.request.adapter or "")
        for start in range(0, len(sequence.tokens) - size, size):
            key = self._pool.next_key(key, sequence.tokens[start : start + size])
            block = self._pool.find(key)
            if block is None:
                break
            sequence.blocks.append(block)
            sequence.keys.append(key)
        sequence.computed = len(sequence.keys) * size
        self.spared += min(sequence.computed, len(sequence.request.prompt))

    def _publish(self, sequence: Sequence) -> None:
        size = self._pool.block_tokens
        for index in range(len(sequence.keys), sequence.computed // size):
            share = sequence.request.share or b""
            before = sequence.keys[-1] if index else self._pool.root(share, sequence.request.adapter or "")
            key = self._pool.next_key(before, sequence.tokens[index * size : (index + 1) * size])
            sequence.keys.append(key)
            self._pool.publish(sequence.blocks[index], key)

    def _divide(
        self, budget: int, reading: dict[Priority, list[Sequence]], texts: list[Text]
    ) -> dict[int, tuple[Sequence, int]]:
        """Prompt tokens for each sequence, by share in small amounts; texts that are due go to `texts`."""
        granted: dict[int, tuple[Sequence, int]] = {}
        while budget > 0:
            due = [p for p in Priority if reading.get(p) or self._texts.count(p)]
            if not due:
                break
            priority = self._turns.first(due)
            text, line = self._texts.peek(priority), reading.get(priority)
            if text is not None and (not line or text.rank < line[0].rank):
                size = len(text.request.prompt)
                if size > budget and (granted or texts):
                    break
                texts.append(self._texts.pop(priority))
            elif line:
                sequence = line[0]
                before = granted.get(id(sequence), (sequence, 0))[1]
                size = min(sequence.remaining - before, budget, _QUANTUM if len(due) > 1 else budget)
                granted[id(sequence)] = (sequence, before + size)
                if before + size == sequence.remaining:
                    line.pop(0)
            self._turns.charge(priority, size)
            budget -= size
        return granted

    def _prompt_pieces(self, granted: dict[int, tuple[Sequence, int]]) -> list[Piece]:
        pieces = []
        for sequence, count in sorted(granted.values(), key=lambda pair: pair[0].rank):
            if self._holds(sequence) and self._grow(sequence, count):
                pieces.append(Piece(sequence, sequence.computed, count))
        return pieces

    def _grow(self, sequence: Sequence, count: int) -> bool:
        """Lend it the blocks for its next `count` tokens, from lower ranks if need be."""
        needed = self._pool.blocks_for(sequence.computed + count) - len(sequence.blocks)
        while needed > self._pool.available:
            if self._running[-1] is sequence:
                return False  # it keeps what it has until a higher rank needs it
            self._preempt(self._running[-1])
        if needed > 0:
            sequence.blocks += self._pool.take(needed)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._pool.release(sequence.blocks)
        sequence.blocks, sequence.keys, sequence.computed = [], [], 0
        self._waiting.push(sequence, front=True)
        self.preemptions += 1
