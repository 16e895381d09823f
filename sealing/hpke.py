"""HPKE base mode (RFC 9180): key schedule, contexts, exporter, over `cryptography`'s primitives."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from .errors import DecryptionFailed, LocalProtocolError, UnsupportedSuite
from .kdf import KDF_HKDF_SHA256, labeled_expand, labeled_extract
from .kem import KEM_MLKEM768_X25519, KEM_X25519, PrivateKey, encapsulate, kem_sizes
from .octets import Octets

__all__ = [
    "AEAD_AES_128_GCM",
    "AEAD_AES_256_GCM",
    "AEAD_CHACHA20_POLY1305",
    "AEAD_EXPORT_ONLY",
    "KDF_HKDF_SHA256",
    "KEM_MLKEM768_X25519",
    "KEM_X25519",
    "MLKEM768_X25519_AES256",
    "N_NONCE",
    "N_TAG",
    "X25519_AES128",
    "Aead",
    "PrivateKey",
    "RecipientContext",
    "SenderContext",
    "Suite",
    "new_aead",
    "setup_recipient",
    "setup_sender",
]

AEAD_AES_128_GCM: Final = 0x0001
AEAD_AES_256_GCM: Final = 0x0002
AEAD_CHACHA20_POLY1305: Final = 0x0003
AEAD_EXPORT_ONLY: Final = 0xFFFF

N_NONCE: Final = 12
N_TAG: Final = 16

_N_KEY: Final = {
    AEAD_AES_128_GCM: 16,
    AEAD_AES_256_GCM: 32,
    AEAD_CHACHA20_POLY1305: 32,
    AEAD_EXPORT_ONLY: 0,
}
_SEQUENCE_END: Final = (1 << (8 * N_NONCE)) - 1
_MAX_EXPORT: Final = 255 * 32
_MODE_BASE: Final = b"\x00"


class Aead(Protocol):
    """The three ciphers of `cryptography`, one shape."""

    def encrypt(self, nonce: bytes, data: Octets, associated_data: bytes) -> bytes: ...

    def decrypt(self, nonce: bytes, data: Octets, associated_data: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Suite:
    """An HPKE cipher suite by its registered identifiers. Raises UnsupportedSuite when built with others."""

    kem: int
    kdf: int
    aead: int

    def __post_init__(self) -> None:
        kem_sizes(self.kem)
        if self.kdf != KDF_HKDF_SHA256:
            raise UnsupportedSuite(f"KDF 0x{self.kdf:04x} is not supported")
        if self.aead not in _N_KEY:
            raise UnsupportedSuite(f"AEAD 0x{self.aead:04x} is not supported")

    @property
    def id(self) -> bytes:
        """suite_id of the key schedule: "HPKE" and three 16-bit identifiers."""
        return b"HPKE" + self.kem.to_bytes(2) + self.kdf.to_bytes(2) + self.aead.to_bytes(2)

    @property
    def n_key(self) -> int:
        """Nk: bytes of an AEAD key."""
        return _N_KEY[self.aead]

    @property
    def n_enc(self) -> int:
        """Nenc: bytes of an encapsulated key."""
        return kem_sizes(self.kem).n_enc


X25519_AES128: Final = Suite(KEM_X25519, KDF_HKDF_SHA256, AEAD_AES_128_GCM)
MLKEM768_X25519_AES256: Final = Suite(KEM_MLKEM768_X25519, KDF_HKDF_SHA256, AEAD_AES_256_GCM)


def new_aead(aead_id: int, key: bytes) -> Aead:
    """The cipher under `key`. Raises UnsupportedSuite for the export-only identifier."""
    if aead_id in (AEAD_AES_128_GCM, AEAD_AES_256_GCM):
        return AESGCM(key)
    if aead_id == AEAD_CHACHA20_POLY1305:
        return ChaCha20Poly1305(key)
    raise UnsupportedSuite(f"AEAD 0x{aead_id:04x} does not encrypt")


class _Context:
    """Keys of one direction after the key schedule (RFC 9180, section 5.1), base mode."""

    __slots__ = ("_aead", "_base_nonce", "_context", "_exporter_secret", "_secret", "_sequence", "suite")

    def __init__(self, suite: Suite, shared_secret: bytes, info: bytes) -> None:
        self.suite = suite
        suite_id, self._context = _schedule_context(suite, info)
        self._secret = labeled_extract(suite_id, shared_secret, b"secret", b"")
        self._exporter_secret: bytes | None = None
        self._sequence = 0
        self._aead: Aead | None = None
        self._base_nonce = 0
        if suite.aead != AEAD_EXPORT_ONLY:
            key = labeled_expand(suite_id, self._secret, b"key", self._context, suite.n_key)
            nonce = labeled_expand(suite_id, self._secret, b"base_nonce", self._context, N_NONCE)
            self._aead = new_aead(suite.aead, key)
            self._base_nonce = int.from_bytes(nonce)

    def export(self, exporter_context: bytes, length: int) -> bytes:
        """RFC 9180, section 5.3. Raises LocalProtocolError beyond 8160 bytes."""
        if not 0 <= length <= _MAX_EXPORT:
            raise LocalProtocolError(f"an export has 0 to {_MAX_EXPORT} bytes")
        if self._exporter_secret is None:  # derived on demand: most contexts export once or never
            self._exporter_secret = labeled_expand(self.suite.id, self._secret, b"exp", self._context, 32)
        return labeled_expand(self.suite.id, self._exporter_secret, b"sec", exporter_context, length)

    def _cipher(self) -> Aead:
        if self._aead is None:
            raise LocalProtocolError("an export-only suite neither seals nor opens")
        if self._sequence >= _SEQUENCE_END:
            raise LocalProtocolError("the sequence numbers of this context are used up")
        return self._aead

    def _nonce(self) -> bytes:
        return (self._base_nonce ^ self._sequence).to_bytes(N_NONCE)


class SenderContext(_Context):
    """Seals messages in order; each takes the next sequence number."""

    __slots__ = ()

    def seal(self, plaintext: Octets, aad: bytes = b"") -> bytes:
        """Ciphertext and tag. Raises LocalProtocolError when the sequence numbers are used up."""
        ciphertext = self._cipher().encrypt(self._nonce(), plaintext, aad)
        self._sequence += 1
        return ciphertext


class RecipientContext(_Context):
    """Opens messages in order. A failure leaves the sequence number where it was (RFC 9180, section 5.2)."""

    __slots__ = ()

    def open(self, ciphertext: Octets, aad: bytes = b"") -> bytes:
        """The plaintext. Raises DecryptionFailed."""
        aead = self._cipher()
        try:
            plaintext = aead.decrypt(self._nonce(), ciphertext, aad)
        except InvalidTag:
            raise DecryptionFailed from None
        self._sequence += 1
        return plaintext


def setup_sender(
    suite: Suite, public_key: Octets, info: bytes, *, testing_ephemeral: PrivateKey | None = None
) -> tuple[bytes, SenderContext]:
    """SetupBaseS (RFC 9180, section 5.1.1): the encapsulated key and the context.

    `testing_ephemeral` fixes the ephemeral X25519 key, for published vectors only.
    Raises MalformedMessage when the public key is unusable.
    """
    shared_secret, enc = encapsulate(suite.kem, public_key, testing_ephemeral)
    return enc, SenderContext(suite, shared_secret, info)


def setup_recipient(suite: Suite, enc: Octets, private_key: PrivateKey, info: bytes) -> RecipientContext:
    """SetupBaseR. Raises MalformedMessage (length of enc), DecryptionFailed (low order)."""
    if private_key.kem_id != suite.kem:
        raise LocalProtocolError("the private key belongs to another KEM than the suite's")
    return RecipientContext(suite, private_key.decapsulate(enc), info)


@lru_cache(maxsize=64)
def _schedule_context(suite: Suite, info: bytes) -> tuple[bytes, bytes]:
    """suite_id and key_schedule_context: public, and the same for every request under one key."""
    suite_id = suite.id
    psk_id_hash = labeled_extract(suite_id, b"", b"psk_id_hash", b"")
    return suite_id, _MODE_BASE + psk_id_hash + labeled_extract(suite_id, b"", b"info_hash", info)
