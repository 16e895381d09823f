"""Key files: an owner's signing key in PEM, an artifact's data key as 64 hexadecimal digits. Mode 0600."""

import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from sealing import cose
from sealing.errors import LocalProtocolError

from .errors import KeyFileError

DATA_KEY: Final = 32
MAX_KEY_FILE: Final = 64 * 1024


def new_owner_key(path: Path, *, p384: bool = False, passphrase: bytes | None = None) -> cose.Signer:
    """Write a new signing key to `path` and its public half to `path`.pub; KeyFileError if either exists."""
    key: cose.SigningKey = ec.generate_private_key(ec.SECP384R1()) if p384 else Ed25519PrivateKey.generate()
    locked = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    _write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write_new(path.with_name(path.name + ".pub"), public, mode=0o644)
    return cose.Signer.of(key)


def read_owner_key(path: Path, *, passphrase: bytes | None = None) -> cose.SigningKey:
    """The signing key in a PEM file. Raises KeyFileError."""
    raw = _read(path)
    try:
        key = load_pem_private_key(raw, passphrase if b"ENCRYPTED" in raw else None)
    except TypeError:
        raise KeyFileError(f"{path} is locked: set CLOISTER_OWNER_PASSPHRASE") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path} is not a private key in PEM, or the passphrase is wrong") from None
    if not isinstance(key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise KeyFileError(f"{path} is neither an Ed25519 nor a P-384 key")
    _signer(path, key)
    return key


def read_signer(path: Path, *, passphrase: bytes | None = None) -> cose.Signer:
    """Who a PEM file, public or private, says somebody is. Raises KeyFileError."""
    raw = _read(path)
    if b"PRIVATE KEY" in raw:
        return cose.Signer.of(read_owner_key(path, passphrase=passphrase))
    try:
        key = load_pem_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path} is not a key in PEM") from None
    if not isinstance(key, Ed25519PublicKey | ec.EllipticCurvePublicKey):
        raise KeyFileError(f"{path} is neither an Ed25519 nor a P-384 key")
    return _signer(path, key)


def new_data_key(path: Path) -> bytes:
    """Write a new data key to `path`, which must not exist. Raises KeyFileError."""
    key = secrets.token_bytes(DATA_KEY)
    _write_new(path, key.hex().encode() + b"\n")
    return key


def read_data_key(path: Path) -> bytes:
    """The data key in `path`. Raises KeyFileError, which quotes none of it."""
    try:
        key = bytes.fromhex(_read(path).decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != DATA_KEY:
        raise KeyFileError(f"{path} is not a data key: 64 hexadecimal digits")
    return key


def _signer(path: Path, key: cose.SigningKey | cose.VerifyingKey) -> cose.Signer:
    try:
        return cose.Signer.of(key)
    except LocalProtocolError:
        raise KeyFileError(f"{path} is neither an Ed25519 nor a P-384 key") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_FILE)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None


def _write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise KeyFileError(f"{path} exists already and is not overwritten") from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
