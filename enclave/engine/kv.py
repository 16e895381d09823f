"""Keys and values of every running request, in blocks of one preallocated tensor."""

from collections.abc import Sequence as Numbers

import torch


class KvArena:
    """Blocks [layers, 1 + blocks, block_tokens, 2, kv_heads, head_dim], zero where nothing is stored.

    Block 0 pads short rows and is never written. Freed blocks are overwritten before they are lent again.
    """

    def __init__(
        self,
        *,
        layers: int,
        blocks: int,
        block_tokens: int,
        kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (layers, 1 + blocks, block_tokens, 2, kv_heads, head_dim)
        self._store = torch.zeros(shape, dtype=dtype, device=device)
        self.block_tokens = block_tokens
        self.kv_heads = kv_heads
        self.head_dim = head_dim
        self.layers = layers
        self.tokens = blocks * block_tokens
        self.device = device

    def write(self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Store keys and values [tokens, kv_heads, head_dim] at `slots` = block x block_tokens + offset."""
        self._store[layer].flatten(0, 1).index_copy_(0, slots, torch.stack((keys, values), dim=1))

    def read(self, layer: int, table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [rows, kv_heads, tokens, head_dim] of the blocks in `table` [rows, blocks]."""
        gathered = self._store[layer].index_select(0, table.flatten())
        rows, blocks = table.shape
        both = gathered.view(rows, blocks * self.block_tokens, 2, self.kv_heads, self.head_dim)
        keys, values = both.unbind(dim=2)
        return keys.transpose(1, 2), values.transpose(1, 2)

    def erase(self, blocks: Numbers[int]) -> None:
        """Overwrite blocks with zeros in every layer."""
        if blocks:
            self._store.index_fill_(1, torch.tensor(list(blocks), device=self.device), 0)

    def is_blank(self) -> bool:
        """Whether nothing at all is stored."""
        return not bool(self._store.any())
