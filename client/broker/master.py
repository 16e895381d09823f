"""The master key, 32 bytes: from a file, the environment or Azure Key Vault; and what it encrypts.

Keys are sealed with AES-256-GCM under keys derived from it, with a fresh nonce each; the associated data
is the resource's name and version, so that no ciphertext can stand in for another.
"""

import base64
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .errors import MasterKeyError

ENVIRONMENT: Final = "CLOISTER_BROKER_MASTER_KEY"
SIZE: Final = 32
_NONCE: Final = 12
_AT_REST = b"cloister/broker/at-rest/v1"


@dataclass(frozen=True, slots=True)
class MasterKey:
    """Seals and opens what is kept. Never written, logged or shown."""

    _key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self._key) != SIZE:
            raise MasterKeyError(f"a master key has {SIZE} bytes, not {len(self._key)}")

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """The key in a file of base64 or hexadecimal that nobody but its owner may read."""
        try:
            with open(path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(4096)
        except OSError as error:
            raise MasterKeyError(f"{path}: {error.strerror}; `cloister broker init` makes one") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise MasterKeyError(f"{path} can be read by others: chmod 600 {path}")
        return cls(_decode(text.decode("ascii", "replace"), str(path)))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The key in CLOISTER_BROKER_MASTER_KEY, base64 or hexadecimal."""
        text = environment.get(ENVIRONMENT)
        if text is None:
            raise MasterKeyError(f"{ENVIRONMENT} is not set, and no --master-key FILE or URL was given")
        return cls(_decode(text, ENVIRONMENT))

    @classmethod
    def from_vault(cls, wrapped: bytes, unwrap: Callable[[bytes], bytes]) -> Self:
        """The key that a vault unwraps; see client/azure/vault.py."""
        return cls(unwrap(wrapped))

    @classmethod
    def generate(cls, path: Path) -> Self:
        """A new key in a new file of mode 600. MasterKeyError if the file is already there."""
        key = os.urandom(SIZE)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise MasterKeyError(f"{path}: {error.strerror}") from None
        with os.fdopen(descriptor, "w") as file:
            file.write(base64.b64encode(key).decode("ascii") + "\n")
            file.flush()
            os.fsync(file.fileno())
        return cls(key)

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """nonce || ciphertext || tag, good only together with this `context`."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher().encrypt(nonce, plaintext, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """What was sealed with this key and `context`; MasterKeyError otherwise."""
        try:
            return self._cipher().decrypt(sealed[:_NONCE], sealed[_NONCE:], context)
        except (InvalidTag, ValueError):
            raise MasterKeyError("what is kept does not open: another master key, or altered") from None

    def _cipher(self) -> AESGCM:
        return AESGCM(HKDF(hashes.SHA256(), SIZE, None, _AT_REST).derive(self._key))


def _decode(text: str, where: str) -> bytes:
    text = text.strip()
    try:
        return bytes.fromhex(text) if len(text) == 2 * SIZE else base64.b64decode(text, validate=True)
    except ValueError:
        raise MasterKeyError(f"{where} holds neither base64 nor hexadecimal of {SIZE} bytes") from None
