"""One step as tensors: which tokens are read, where their keys go, whom each of them may look at.

Every token is a row of its own ([tokens, 1] into the model), so nothing is padded but attention, and a LoRA
adapter can differ from row to row. Rows that attend alike are neighbours and form a `Group`.
"""

from collections.abc import Sequence as Pieces

import torch

from .kv import KvArena
from .sequences import Piece

# Decoding rows of up to so many tokens share a group; longer ones share with those within a factor of two.
_SHORT = 256


class Group:
    """Rows [start, stop) of the step: decoding rows of several sequences, or one sequence's piece of prompt.

    `table` [sequences, blocks] says where the keys are, `positions` [rows] where the queries stand.
    """

    def __init__(self, rows: slice, table: torch.Tensor, positions: torch.Tensor, block_tokens: int) -> None:
        self.rows = rows
        self.table = table
        self.decodes = len(table) == len(positions)
        self._positions = positions
        self._length = table.shape[1] * block_tokens
        self._masks: dict[int | None, torch.Tensor] = {}

    def mask(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """0 where a query may look, else minus infinity: [rows, 1, 1, keys], for a piece [rows, keys]."""
        if window not in self._masks:
            keys = torch.arange(self._length, device=self._positions.device)
            queries = self._positions[:, None]
            hidden = keys > queries
            if window is not None:
                hidden |= keys <= queries - window
            mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(
                hidden, -torch.inf
            )
            self._masks[window] = mask[:, None, None] if self.decodes else mask
        return self._masks[window]


class StepPlan:
    """The pieces of one step, in the order of their rows.

    `adapted` are the adapters that are used, with their rows.
    Attention notes what it was asked for: `calls` counts its layers, `windows` holds their sliding windows.
    """

    def __init__(self, pieces: Pieces[Piece], arena: KvArena) -> None:
        self.arena = arena
        self.calls = 0
        self.windows: set[int | None] = set()
        self.pieces = sorted(pieces, key=_group_key)
        self.groups: list[Group] = []
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        self.adapted: list[tuple[str, slice]] = []
        last_rows: list[int] = []
        for piece in self.pieces:
            if (adapter := piece.sequence.request.adapter) is not None:
                self.adapted.append((adapter, slice(len(tokens), len(tokens) + piece.count)))
            tokens += piece.tokens
            where = range(piece.start, piece.start + piece.count)
            positions += where
            slots += [_slot(piece.sequence.blocks, at, arena.block_tokens) for at in where]
            if piece.samples:
                last_rows.append(len(tokens) - 1)
        self.sampled = [piece.sequence for piece in self.pieces if piece.samples]
        self.input_ids, self.positions, self.slots, self.last_rows = _tensors(
            arena.device, tokens, positions, slots, last_rows
        )
        self._form_groups()

    def _form_groups(self) -> None:
        row = at = 0
        while at < len(self.pieces):
            members = [self.pieces[at]]
            if members[0].count == 1:
                key = _group_key(members[0])
                members = [piece for piece in self.pieces[at:] if _group_key(piece) == key]
            rows = slice(row, row + sum(piece.count for piece in members))
            table = _table(members, self.arena)
            self.groups.append(Group(rows, table, self.positions[rows], self.arena.block_tokens))
            row, at = rows.stop, at + len(members)


def _group_key(piece: Piece) -> int:
    """0 for prompt pieces, each a group of its own; a length class for decoding rows."""
    return 0 if piece.count > 1 else max(_SHORT, 1 << piece.start.bit_length())


def _table(pieces: Pieces[Piece], arena: KvArena) -> torch.Tensor:
    width = max(piece.start + piece.count - 1 for piece in pieces) // arena.block_tokens + 1
    rows = [piece.sequence.blocks[:width] for piece in pieces]
    return torch.tensor([row + [0] * (width - len(row)) for row in rows], device=arena.device)


def _slot(blocks: list[int], position: int, block_tokens: int) -> int:
    return blocks[position // block_tokens] * block_tokens + position % block_tokens


def _tensors(device: torch.device, *columns: list[int]) -> list[torch.Tensor]:
    return [torch.tensor(column, dtype=torch.long, device=device) for column in columns]
