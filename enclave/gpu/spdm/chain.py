"""An SPDM certificate chain: Length, Reserved, RootHash, then certificates in DER (DSP0274, 10.6.1)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from .codes import HASH_SIZE
from .errors import MalformedMessage
from .octets import number

_HEADER = 4
_ERRORS = (ValueError, TypeError, Warning, x509.InvalidVersion, UnsupportedAlgorithm)
"""What `cryptography` raises for certificates that do not parse."""


@dataclass(frozen=True)
class CertificateChain:
    """A chain as received: `raw`. Parsed, not verified: whom to trust is the judge's business."""

    raw: bytes
    certificates: tuple[x509.Certificate, ...]

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The chain in `raw`, the certificate nearest the root first. Raises MalformedMessage."""
        if len(raw) < _HEADER + HASH_SIZE or int.from_bytes(raw[:2], "little") != len(raw):
            raise MalformedMessage(f"a certificate chain of {len(raw)} bytes names another Length")
        body, found = raw[_HEADER + HASH_SIZE :], []
        while body:
            size = _der_size(body)
            try:
                found.append(x509.load_der_x509_certificate(body[:size]))
            except _ERRORS as error:
                raise MalformedMessage(f"a certificate of the chain does not parse: {error}") from None
            body = body[size:]
        if not found:
            raise MalformedMessage("a certificate chain without certificates")
        return cls(raw, tuple(found))

    @classmethod
    def of(cls, certificates: Sequence[x509.Certificate]) -> Self:
        """The chain of `certificates`, root first and leaf last."""
        encoded = [each.public_bytes(Encoding.DER) for each in certificates]
        body = hashlib.sha384(encoded[0]).digest() + b"".join(encoded)
        return cls(number(_HEADER + len(body), 2) + bytes(2) + body, tuple(certificates))

    @cached_property
    def digest(self) -> bytes:
        """SHA-384 over the chain, header included."""
        return hashlib.sha384(self.raw).digest()

    @property
    def root_hash(self) -> bytes:
        """RootHash: the SHA-384 of a root that may itself be left out."""
        return self.raw[_HEADER : _HEADER + HASH_SIZE]

    @cached_property
    def leaf_key(self) -> ec.EllipticCurvePublicKey:
        """The key that signs for the device. Raises MalformedMessage unless it is on P-384."""
        try:
            key = self.certificates[-1].public_key()
        except _ERRORS as error:
            raise MalformedMessage(f"the leaf's key does not parse: {error}") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            raise MalformedMessage("the leaf's key is not on P-384")
        return key

    @property
    def pem(self) -> bytes:
        """The certificates in PEM, leaf first: how NVIDIA's evidence carries a chain."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in reversed(self.certificates))


def _der_size(raw: bytes) -> int:
    """Bytes of the DER SEQUENCE at the front of `raw`. Raises MalformedMessage."""
    if len(raw) < 4 or raw[0] != 0x30 or raw[1] != 0x82:
        raise MalformedMessage("a certificate chain holds something that is no certificate")
    size = 4 + int.from_bytes(raw[2:4], "big")
    if size > len(raw):
        raise MalformedMessage("a certificate chain ends inside a certificate")
    return size
