"""The key schedule (DSP0274, key schedule): HKDF with SHA-384 over labels of the negotiated version.

Secrets are bytearrays, so that `erase` can zero them. HKDF's own copies and the AEAD's keys lie in OpenSSL's
memory, which frees them without our doing.
"""

import hmac
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from .codes import EXCHANGE_SIZE, HASH_SIZE
from .errors import RemoteProtocolError
from .octets import number

KEY_SIZE: Final = 32
IV_SIZE: Final = 12


def bin_concat(version: int, length: int, label: str, context: bytes = b"") -> bytes:
    """BinConcat: length, version label, label, context."""
    spdm = f"spdm{version >> 4}.{version & 0xF} "
    return number(length, 2) + spdm.encode() + label.encode() + context


def expand(
    version: int, secret: bytes | bytearray, label: str, context: bytes = b"", length: int = HASH_SIZE
) -> bytearray:
    """HKDF-Expand of `secret` under BinConcat."""
    made = bytearray(length)
    HKDFExpand(hashes.SHA384(), length, bin_concat(version, length, label, context)).derive_into(secret, made)
    return made


def extract(salt: bytes | bytearray, secret: bytes | bytearray) -> bytearray:
    """HKDF-Extract."""
    return bytearray(HKDF.extract(hashes.SHA384(), bytes(salt), bytes(secret)))


def erase(*secrets: bytearray) -> None:
    """Zero them."""
    for secret in secrets:
        secret[:] = bytes(len(secret))


def public_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """X || Y, 96 bytes."""
    numbers = key.public_key().public_numbers()
    half = EXCHANGE_SIZE // 2
    return numbers.x.to_bytes(half, "big") + numbers.y.to_bytes(half, "big")


def shared_secret(key: ec.EllipticCurvePrivateKey, exchange: bytes) -> bytearray:
    """The DHE secret: 48 bytes. Raises RemoteProtocolError for a point that is not on P-384."""
    half = EXCHANGE_SIZE // 2
    x, y = int.from_bytes(exchange[:half], "big"), int.from_bytes(exchange[half:], "big")
    try:
        peer = ec.EllipticCurvePublicNumbers(x, y, ec.SECP384R1()).public_key()
    except ValueError:
        raise RemoteProtocolError("the peer's exchange data is no point of P-384") from None
    return bytearray(key.exchange(ec.ECDH(), peer))


@dataclass(slots=True)
class HandshakeSecrets:
    """What follows from the DHE secret and TH1."""

    version: int
    handshake: bytearray = field(repr=False)
    request: bytearray = field(repr=False)
    response: bytearray = field(repr=False)

    @classmethod
    def derive(cls, version: int, dhe: bytearray, th1: bytes) -> Self:
        """From the DHE secret, which is erased."""
        handshake = extract(bytes(HASH_SIZE), dhe)
        erase(dhe)
        return cls(
            version=version,
            handshake=handshake,
            request=expand(version, handshake, "req hs data", th1),
            response=expand(version, handshake, "rsp hs data", th1),
        )

    def verify_data(self, secret: bytearray, transcript_hash: bytes) -> bytes:
        """HMAC under the finished key of `secret` (request or response)."""
        finished = expand(self.version, secret, "finished")
        made = hmac.digest(finished, transcript_hash, "sha384")
        erase(finished)
        return made

    def data(self, th2: bytes) -> "DataSecrets":
        """The data secrets; these here are erased."""
        salt = expand(self.version, self.handshake, "derived")
        master = extract(salt, bytes(HASH_SIZE))
        made = DataSecrets(
            request=expand(self.version, master, "req app data", th2),
            response=expand(self.version, master, "rsp app data", th2),
            export=expand(self.version, master, "exp master", th2),
        )
        erase(salt, master)
        self.erase()
        return made

    def erase(self) -> None:
        """Zero them all."""
        erase(self.handshake, self.request, self.response)


@dataclass(slots=True)
class DataSecrets:
    """The major secrets of the application phase."""

    request: bytearray = field(repr=False)
    response: bytearray = field(repr=False)
    export: bytearray = field(repr=False)
