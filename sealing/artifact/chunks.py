"""Encryption of chunks: one key a sealing run, one nonce a chunk, and its whole place authenticated."""

import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealing.errors import ChunkRefused, LocalProtocolError, WrongKey
from sealing.kdf import expand, extract
from sealing.octets import Octets

from .layout import Chunk

KEY: Final = 32
ARTIFACT_ID: Final = 16
RUN_ID: Final = 32
_COMMITMENT: Final = b"cloister/key-commitment/v1"
_RUN: Final = b"cloister/artifact-run/v1"
_CHUNK: Final = b"cloister/artifact-chunk/v1"


def key_commitment(data_key: bytes, artifact_id: bytes) -> bytes:
    """What a manifest says of its key: HKDF-SHA256, 32 bytes. GCM alone would open under several keys."""
    return expand(extract(b"", _checked(data_key)), _COMMITMENT + artifact_id, KEY)


def check_commitment(data_key: bytes, artifact_id: bytes, commitment: bytes) -> None:
    """Raise WrongKey unless `data_key` is the one that the manifest commits to."""
    if not hmac.compare_digest(key_commitment(data_key, artifact_id), commitment):
        raise WrongKey("the key is not this artifact's: its commitment differs")


class RunCipher:
    """Seals and opens the chunks of one sealing run of one artifact."""

    def __init__(self, data_key: bytes, artifact_id: bytes, run_id: bytes) -> None:
        self._aead = AESGCM(expand(extract(run_id, _checked(data_key)), _RUN + artifact_id, KEY))
        self._head = _CHUNK + _lp(artifact_id) + _lp(run_id)

    def seal_into(self, chunk: Chunk, plaintext: Octets, into: memoryview | bytearray) -> None:
        """Write `chunk.length` bytes of ciphertext and tag. A run seals each chunk once, never again."""
        self._aead.encrypt_into(_nonce(chunk), plaintext, self._associated(chunk), into)

    def open_into(self, chunk: Chunk, ciphertext: Octets, into: memoryview | bytearray) -> None:
        """Write `chunk.size` bytes of plaintext. After ChunkRefused `into` holds nothing to be used."""
        if len(ciphertext) != chunk.length:
            reason = f"{len(ciphertext)} bytes where {chunk.length} belong"
            raise ChunkRefused(chunk.counter, chunk.path, reason)
        try:
            self._aead.decrypt_into(_nonce(chunk), ciphertext, self._associated(chunk), into)
        except InvalidTag:
            reason = "altered, moved, from another version, or not sealed with this key"
            raise ChunkRefused(chunk.counter, chunk.path, reason) from None

    def _associated(self, chunk: Chunk) -> bytes:
        place = chunk.index.to_bytes(8) + chunk.count.to_bytes(8) + chunk.final.to_bytes(1)
        return self._head + _lp(chunk.path.encode()) + place


def _nonce(chunk: Chunk) -> bytes:
    return chunk.counter.to_bytes(12)


def _lp(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data


def _checked(data_key: bytes) -> bytes:
    if len(data_key) != KEY:
        raise LocalProtocolError(f"a data key is {KEY} bytes")
    return data_key
