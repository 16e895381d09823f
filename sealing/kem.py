"""Key encapsulation: DHKEM(X25519, HKDF-SHA256) of RFC 9180 and MLKEM768-X25519 (X-Wing).

Encapsulation of MLKEM768-X25519 is always randomised: the primitive takes no randomness from outside.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha3_256, shake_256
from typing import Final, NoReturn, Self

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from .errors import DecryptionFailed, LocalProtocolError, MalformedMessage, UnsupportedSuite
from .kdf import labeled_expand, labeled_extract
from .octets import Octets

KEM_X25519: Final = 0x0020
KEM_MLKEM768_X25519: Final = 0x647A

_XWING_LABEL: Final = bytes.fromhex("5c2e2f2f5e5c")
_MLKEM_PUBLIC: Final = 1184
_MLKEM_CIPHERTEXT: Final = 1088
_X25519_SUITE_ID: Final = b"KEM" + KEM_X25519.to_bytes(2)


@dataclass(frozen=True, slots=True)
class Kem:
    """Sizes of one KEM, in bytes: private key, public key, encapsulated key."""

    name: str
    n_sk: int
    n_pk: int
    n_enc: int


KEMS: Final = {
    KEM_X25519: Kem("DHKEM(X25519, HKDF-SHA256)", 32, 32, 32),
    KEM_MLKEM768_X25519: Kem("MLKEM768-X25519", 32, _MLKEM_PUBLIC + 32, _MLKEM_CIPHERTEXT + 32),
}


def kem_sizes(kem_id: int) -> Kem:
    """Name and sizes of a KEM. Raises UnsupportedSuite for one that is not implemented."""
    kem = KEMS.get(kem_id)
    if kem is None:
        raise UnsupportedSuite(f"KEM 0x{kem_id:04x} is not supported")
    return kem


class PrivateKey:
    """A KEM private key, loaded once. Its text form shows the algorithm and no key material.

    The ML-KEM part of the public key is derived when it is asked for: decapsulation does not need it.
    """

    __slots__ = ("_mlkem", "_raw", "_x25519", "_x25519_public", "kem_id")

    def __init__(self, kem_id: int, raw: Octets) -> None:
        kem = kem_sizes(kem_id)
        if len(raw) != kem.n_sk:
            raise LocalProtocolError(f"a private key of {kem.name} has {kem.n_sk} bytes, not {len(raw)}")
        self.kem_id = kem_id
        self._raw = bytes(raw)
        self._mlkem: MLKEM768PrivateKey | None = None
        scalar = self._raw
        if kem_id == KEM_MLKEM768_X25519:
            expanded = shake_256(self._raw).digest(96)
            self._mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
            scalar = expanded[64:]
        self._x25519 = X25519PrivateKey.from_private_bytes(scalar)
        self._x25519_public = self._x25519.public_key().public_bytes_raw()

    @property
    def public_key(self) -> bytes:
        """The raw public key: ML-KEM's part before X25519's, in the hybrid."""
        if self._mlkem is None:
            return self._x25519_public
        return self._mlkem.public_key().public_bytes_raw() + self._x25519_public

    @classmethod
    def generate(cls, kem_id: int) -> Self:
        """A fresh key from the system's random source. Raises UnsupportedSuite."""
        return cls(kem_id, os.urandom(kem_sizes(kem_id).n_sk))

    @classmethod
    def from_bytes(cls, kem_id: int, raw: Octets) -> Self:
        """The key in `raw`: an X25519 scalar, or the 32-byte seed of MLKEM768-X25519.

        Raises UnsupportedSuite, LocalProtocolError (wrong length).
        """
        return cls(kem_id, raw)

    def to_bytes(self) -> bytes:
        """The raw private key, 32 bytes: secret."""
        return self._raw

    def __repr__(self) -> str:
        return f"<PrivateKey {KEMS[self.kem_id].name}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled or copied")

    def decapsulate(self, enc: Octets) -> bytes:
        """The 32-byte shared secret. Raises MalformedMessage (length), DecryptionFailed (low order)."""
        kem = KEMS[self.kem_id]
        if len(enc) != kem.n_enc:
            raise MalformedMessage(f"an encapsulated key of {kem.name} has {kem.n_enc} bytes, not {len(enc)}")
        enc = bytes(enc)
        ephemeral = enc[-32:]
        try:
            dh = self._x25519.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        except ValueError:  # all-zero output: a point of low order
            raise DecryptionFailed from None
        if self._mlkem is None:
            return _dhkem_secret(dh, enc, self._x25519_public)
        shared = self._mlkem.decapsulate(enc[:_MLKEM_CIPHERTEXT])
        return _xwing_secret(shared, dh, ephemeral, self._x25519_public)


def encapsulate(kem_id: int, public_key: Octets, ephemeral: PrivateKey | None = None) -> tuple[bytes, bytes]:
    """A 32-byte shared secret and its encapsulation: (secret, enc).

    `ephemeral` fixes the X25519 key for test vectors; MLKEM768-X25519 refuses it.
    Raises UnsupportedSuite, MalformedMessage (a public key of wrong length, off range or of low order).
    """
    kem = kem_sizes(kem_id)
    if len(public_key) != kem.n_pk:
        raise MalformedMessage(f"a public key of {kem.name} has {kem.n_pk} bytes, not {len(public_key)}")
    send = _senders(kem_id, bytes(public_key))
    try:
        return send(ephemeral)
    except ValueError:  # all-zero output: a point of low order
        raise MalformedMessage("the public key is a point of low order") from None


_Send = Callable[[PrivateKey | None], tuple[bytes, bytes]]


@lru_cache(maxsize=32)
def _senders(kem_id: int, public_key: bytes) -> _Send:
    """The parsed public key as a function; kept, since a client seals to few keys and parsing costs 20 %."""
    x25519 = X25519PublicKey.from_public_bytes(public_key[-32:])
    if kem_id == KEM_X25519:
        return lambda ephemeral: _dhkem_encapsulate(x25519, public_key, ephemeral)
    try:
        mlkem = MLKEM768PublicKey.from_public_bytes(public_key[:_MLKEM_PUBLIC])
    except ValueError:
        raise MalformedMessage("the ML-KEM public key has a coefficient out of range") from None
    return lambda ephemeral: _xwing_encapsulate(mlkem, x25519, public_key[-32:], ephemeral)


def _dhkem_encapsulate(
    peer: X25519PublicKey, public_key: bytes, ephemeral: PrivateKey | None
) -> tuple[bytes, bytes]:
    """RFC 9180, section 4.1, Encap."""
    if ephemeral is None:
        key = X25519PrivateKey.generate()
    else:
        key = X25519PrivateKey.from_private_bytes(ephemeral.to_bytes())
    dh = key.exchange(peer)
    enc = key.public_key().public_bytes_raw()
    return _dhkem_secret(dh, enc, public_key), enc


def _dhkem_secret(dh: bytes, enc: bytes, public_key: bytes) -> bytes:
    """RFC 9180, section 4.1, ExtractAndExpand."""
    prk = labeled_extract(_X25519_SUITE_ID, b"", b"eae_prk", dh)
    return labeled_expand(_X25519_SUITE_ID, prk, b"shared_secret", enc + public_key, 32)


def _xwing_encapsulate(
    mlkem: MLKEM768PublicKey, peer: X25519PublicKey, peer_raw: bytes, ephemeral: PrivateKey | None
) -> tuple[bytes, bytes]:
    """X-Wing: ML-KEM-768 and X25519 side by side."""
    if ephemeral is not None:
        raise LocalProtocolError("MLKEM768-X25519 takes no fixed ephemeral key")
    key = X25519PrivateKey.generate()
    dh = key.exchange(peer)
    x_enc = key.public_key().public_bytes_raw()
    shared, m_enc = mlkem.encapsulate()
    return _xwing_secret(shared, dh, x_enc, peer_raw), m_enc + x_enc


def _xwing_secret(shared: bytes, dh: bytes, x_enc: bytes, x_public: bytes) -> bytes:
    """X-Wing's combiner: SHA3-256 over both secrets, the X25519 share and key, and a label."""
    return sha3_256(shared + dh + x_enc + x_public + _XWING_LABEL).digest()
