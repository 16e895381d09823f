"""Records of one direction and class: AES-256-GCM under a counter that both ends keep and nobody sends.

Associated data, 32 bytes, little-endian:

    0  u8 direction   1  u8 class   2  zero, zero   4  u32 generation   8  u64 counter
    16 u32 header word without the lap (length and kind)   20 u32 zero   24 u64 session

The nonce is bytes 4 to 15 of it. The counter never repeats in a session, and no key serves two chains.
"""

import struct
from typing import Any, Final

from cryptography.exceptions import InvalidTag

from enclave.gpu.bus import LinkBroken, Reason, Side
from enclave.gpu.bus.geometry import Class, Geometry

from .keys import Secrets
from .kinds import LENGTH

Bytes = bytes | bytearray | memoryview

MAX_RECORDS: Final = 2**32 - 1
MAX_BLOCKS: Final = 2**38
COUNTER: Final = 1
"""The counter's place in the associated data, as words of 8 bytes."""
WORD: Final = 4
"""The header word's place, as words of 4."""
_BLOCK: Final = 16
_DATA: Final = struct.Struct("<BB2xIQQQ")
_NONCE: Final = slice(4, 16)


def records_per_key(geometry: Geometry, which: Class) -> int:
    """How many records a key may protect: below 2^32, and 2^38 blocks however long they are."""
    blocks = -(-geometry.capacity(which) // _BLOCK) + 1
    return min(MAX_RECORDS, MAX_BLOCKS // blocks)


class _Half:
    """Key, counter and associated data of one direction and class. For who holds the ring's turn.

    The hot paths of control.py and bulk.py do what `_next` does, in place.
    """

    def __init__(self, secrets: Secrets, sender: Side, which: Class, session: int, per_key: int) -> None:
        self._secrets, self._sender, self._which = secrets, sender, which
        self._per_key = self.rekey_at = per_key
        self._session, self.generation, self.counter = session, 0, 0
        self.data = bytearray(_DATA.size)
        self.nonce = memoryview(self.data)[_NONCE]
        self.words = memoryview(self.data).cast("Q")
        self.fields = memoryview(self.data).cast("I")
        self.key: Any = None
        self._begin_generation()

    def erase(self) -> None:
        """Drop the key: whoever still tries gets LinkBroken(CLOSED)."""
        self.key = _ERASED

    def advance(self) -> None:
        """Go on to the next generation: a new key, the old one's secret erased."""
        self._secrets.advance(self._sender, self._which)
        self.generation += 1
        self.rekey_at += self._per_key
        self._begin_generation()

    def _begin_generation(self) -> None:
        key = self._secrets.key(self._sender, self._which)
        if self.key is _ERASED:
            raise LinkBroken(Reason.CLOSED)
        self.key = key
        _DATA.pack_into(self.data, 0, self._sender, self._which, self.generation, 0, 0, self._session)

    def _next(self, word: int) -> None:
        """Take the next counter into nonce and associated data: used once, whatever comes of it."""
        counter = self.counter
        if counter >= self.rekey_at:
            self.advance()
        self.counter = counter + 1
        self.words[COUNTER] = counter
        self.fields[WORD] = word


class Sealer(_Half):
    """The sending half."""

    def seal(self, data: Bytes, word: int) -> bytes:
        """Ciphertext and tag, in memory of our own."""
        self._next(word)
        sealed: bytes = self.key.encrypt(self.nonce, data, self.data)
        return sealed

    def seal_into(self, data: Bytes, word: int, out: memoryview) -> None:
        """Ciphertext and tag straight into `out`; only an AES-GCM that reads once may do so in a slot."""
        self._next(word)
        self.key.encrypt_into(self.nonce, data, self.data, out)


class Opener(_Half):
    """The receiving half. `sealed` is ciphertext and tag. A bad tag is LinkBroken(TAG)."""

    def open(self, sealed: Bytes, word: int) -> bytes:
        """The plaintext of a record."""
        self._next(word)
        try:
            plain: bytes = self.key.decrypt(self.nonce, sealed, self.data)
        except InvalidTag:
            raise LinkBroken(Reason.TAG) from None
        return plain

    def open_into(self, sealed: Bytes, word: int, out: memoryview) -> None:
        """The plaintext straight into `out`, exactly as long; zeroed again if the tag is bad."""
        self._next(word)
        try:
            self.key.decrypt_into(self.nonce, sealed, self.data, out)
        except InvalidTag:
            out[:] = bytes(len(out))
            raise LinkBroken(Reason.TAG) from None


class _Erased:
    """Stands where a key was."""

    def _refuse(self, *_: object) -> bytes:
        raise LinkBroken(Reason.CLOSED)

    encrypt = decrypt = encrypt_into = decrypt_into = _refuse


_ERASED: Final = _Erased()


def plaintext_length(word: int, capacity: int) -> int:
    """The length in a header word. LinkBroken(HEADER) if it does not fit the slot."""
    length = word & LENGTH
    if length > capacity:
        raise LinkBroken(Reason.HEADER, f"{length} bytes in a slot of {capacity}")
    return length
