"""The Merkle tree over an artifact's ciphertext (the tree hash of RFC 6962, section 2.1, with SHA-256)."""

import hashlib
from typing import Final

from sealing.octets import Octets

DIGEST: Final = 32


def leaf(chunk: Octets) -> bytes:
    """The leaf of one chunk of ciphertext."""
    digest = hashlib.sha256(b"\x00")
    digest.update(chunk)
    return digest.digest()


class Tree:
    """A tree that grows leaf by leaf and keeps one hash a level."""

    def __init__(self) -> None:
        self._peaks: list[tuple[int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        """Append a leaf's hash."""
        height = 0
        while self._peaks and self._peaks[-1][0] == height:
            leaf = _node(self._peaks.pop()[1], leaf)
            height += 1
        self._peaks.append((height, leaf))

    @property
    def root(self) -> bytes:
        """The hash over all leaves so far; SHA-256 of nothing if there are none."""
        if not self._peaks:
            return hashlib.sha256().digest()
        root = self._peaks[-1][1]
        for _, peak in reversed(self._peaks[:-1]):
            root = _node(peak, root)
        return root


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
