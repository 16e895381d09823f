"""Records of one direction and class: AES-256-GCM under a counter that both ends keep and nobody sends.

Associated data, 32 bytes, little-endian:

    0  u8 direction   1  u8 class   2  zero, zero   4  u32 generation   8  u64 counter
    16 the header word: u32 length, u8 kind, three zero bytes           24 u64 session

The nonce is bytes 4 to 15 of it. The counter never repeats in a session, and no key serves two chains.
"""

import struct
from typing import Any, Final

from cryptography.exceptions import InvalidTag

from enclave.gpu.bus import LinkBroken, Reason, Side
from enclave.gpu.bus.geometry import Class, Geometry

from .keys import Secrets

Bytes = bytes | bytearray | memoryview

MAX_RECORDS: Final = 2**32 - 1
MAX_BLOCKS: Final = 2**38
_BLOCK: Final = 16
_DATA: Final = struct.Struct("<BB2xIQQQ")
_NONCE: Final = slice(4, 16)
_COUNTER, _WORD = 1, 2  # 8-byte words of the associated data that change with every record


def records_per_key(geometry: Geometry, which: Class) -> int:
    """How many records a key may protect: below 2^32, and 2^38 blocks however long they are."""
    blocks = -(-geometry.capacity(which) // _BLOCK) + 1
    return min(MAX_RECORDS, MAX_BLOCKS // blocks)


class _Half:
    """Key, counter and associated data. Not for two threads at once: a ring's lock guards it."""

    def __init__(self, secrets: Secrets, sender: Side, which: Class, session: int, per_key: int) -> None:
        self._secrets, self._sender, self._which = secrets, sender, which
        self._per_key = self._rekey_at = per_key
        self._session, self.generation, self.counter = session, 0, 0
        self._data = bytearray(_DATA.size)
        self._nonce = memoryview(self._data)[_NONCE]
        self._words = memoryview(self._data).cast("Q")
        self._key: Any = None
        self._begin_generation()

    def erase(self) -> None:
        """Drop the key: whoever still tries gets LinkBroken(CLOSED)."""
        self._key = _ERASED

    def _begin_generation(self) -> None:
        key = self._secrets.key(self._sender, self._which)
        if self._key is _ERASED:
            raise LinkBroken(Reason.CLOSED)
        self._key = key
        _DATA.pack_into(self._data, 0, self._sender, self._which, self.generation, 0, 0, self._session)

    def _advance(self) -> None:
        self._secrets.advance(self._sender, self._which)
        self.generation += 1
        self._rekey_at += self._per_key
        self._begin_generation()

    def _next(self, word: int) -> None:
        """Take the next counter into nonce and associated data: used once, whatever comes of it."""
        counter = self.counter
        if counter == self._rekey_at:
            self._advance()
        self._words[_COUNTER] = counter
        self._words[_WORD] = word
        self.counter = counter + 1


class Sealer(_Half):
    """The sending half."""

    def seal(self, data: Bytes, word: int) -> bytes:
        """Ciphertext and tag, in memory of our own."""
        self._next(word)
        sealed: bytes = self._key.encrypt(self._nonce, data, self._data)
        return sealed

    def seal_into(self, data: Bytes, word: int, out: memoryview) -> None:
        """Ciphertext and tag straight into `out`, which only an AES-GCM that reads once may do (loads.py)."""
        self._next(word)
        self._key.encrypt_into(self._nonce, data, self._data, out)


class Opener(_Half):
    """The receiving half. `sealed` is ciphertext and tag. A bad tag is LinkBroken(TAG)."""

    def open(self, sealed: bytes, word: int) -> bytes:
        """The plaintext of a private copy of a record."""
        self._next(word)
        try:
            plain: bytes = self._key.decrypt(self._nonce, sealed, self._data)
        except InvalidTag:
            raise LinkBroken(Reason.TAG) from None
        return plain

    def open_into(self, sealed: Bytes, word: int, out: memoryview) -> None:
        """The plaintext straight into `out`, exactly as long; zeroed again if the tag is bad."""
        self._next(word)
        try:
            self._key.decrypt_into(self._nonce, sealed, self._data, out)
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
    length = word & 0xFFFFFFFF
    if length > capacity:
        raise LinkBroken(Reason.HEADER, f"{length} bytes in a slot of {capacity}")
    return length
