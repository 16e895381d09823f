"""Key-value blocks by number: who holds them, which may be shared, which are free. Imports no torch.

A full block can be published under a key. The key is a keyed hash over the block's tokens, all tokens before
them, the adapter that read them and the 32 bytes of the request's share, chained block by block. So a block
is found only by a request that has the same share, the same adapter and the same tokens from the start; a
request without a share publishes nothing and finds nothing.
"""

import hashlib
import secrets
from array import array
from collections import OrderedDict
from collections.abc import Sequence as Numbers

from .sequences import Erase

_KEY_BYTES = 32


class BlockPool:
    """Blocks 1 to `count`. Block 0 is never lent: it pads short rows and stays zero.

    `erase` overwrites blocks: those that nobody may read again as they are given back, published ones when
    their place is needed.
    """

    def __init__(self, count: int, block_tokens: int, erase: Erase) -> None:
        self.count = count
        self.block_tokens = block_tokens
        self._erase = erase
        self._free = list(range(count, 0, -1))
        self._holders = [0] * (count + 1)
        self._key_of: dict[int, bytes] = {}
        self._by_key: dict[bytes, int] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._salt = secrets.token_bytes(_KEY_BYTES)

    @property
    def cached(self) -> int:
        """Blocks that no request holds, kept under their keys, the longest unused first to go."""
        return len(self._cached)

    @property
    def used(self) -> int:
        """Blocks that some request holds."""
        return self.count - len(self._free) - len(self._cached)

    @property
    def available(self) -> int:
        """Blocks that `take` can lend."""
        return len(self._free) + len(self._cached)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.block_tokens)

    def take(self, count: int) -> list[int]:
        """Blocks of zeros; the caller has checked `available`."""
        evicted = [self._cached.popitem(last=False)[0] for _ in range(count - len(self._free))]
        self._forget(evicted)
        taken = [self._free.pop() for _ in range(count)]
        for block in taken:
            self._holders[block] = 1
        return taken

    def release(self, blocks: Numbers[int]) -> None:
        """Give up one hold on each; what is not published is overwritten at once."""
        gone = []
        for block in reversed(blocks):  # the ends of prefixes are the first to go
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            if block in self._key_of:
                self._cached[block] = None
            else:
                gone.append(block)
        self._forget(gone)

    def forget_cached(self) -> None:
        """Overwrite every published block that no request holds."""
        blocks = list(self._cached)
        self._cached.clear()
        self._forget(blocks)

    def root(self, share: bytes, adapter: str) -> bytes:
        """The key before the first block."""
        return hashlib.blake2b(share + adapter.encode(), digest_size=_KEY_BYTES, key=self._salt).digest()

    def next_key(self, before: bytes, tokens: Numbers[int]) -> bytes:
        """The key of the block with these tokens, after the block with the key `before`."""
        content = before + array("q", tokens).tobytes()
        return hashlib.blake2b(content, digest_size=_KEY_BYTES, key=self._salt).digest()

    def publish(self, block: int, key: bytes) -> None:
        """Let others find a full block; nothing happens if its key is taken."""
        if key not in self._by_key and block not in self._key_of:
            self._by_key[key] = block
            self._key_of[block] = key

    def find(self, key: bytes) -> int | None:
        """The block published under a key, held once more; None if there is none."""
        block = self._by_key.get(key)
        if block is not None:
            self._cached.pop(block, None)
            self._holders[block] += 1
        return block

    def _forget(self, blocks: list[int]) -> None:
        if not blocks:
            return
        for block in blocks:
            key = self._key_of.pop(block, None)
            if key is not None:
                del self._by_key[key]
        self._erase(blocks)
        self._free.extend(reversed(blocks))
