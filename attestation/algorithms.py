"""Signature algorithms of certificates by their AlgorithmIdentifier in DER: the few that are accepted.

ECDSA (RFC 5758, 3.2), RSA PKCS #1 v1.5 (RFC 4055, section 5) and RSASSA-PSS (RFC 4055, section 3)
with SHA-256, -384 or -512; PSS with MGF1 over the same hash and a salt as long as the hash.
Everything that may be written in more than one way is here in each of them.
"""

from itertools import product
from types import MappingProxyType

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

_NULL = b"\x05\x00"
_ABSENT = b""
_DIGESTS = (
    (hashes.SHA256(), "0609608648016503040201", 2),
    (hashes.SHA384(), "0609608648016503040202", 3),
    (hashes.SHA512(), "0609608648016503040203", 4),
)
_ECDSA_WITH = bytes.fromhex("06082a8648ce3d0403")
_RSA = bytes.fromhex("06092a864886f70d0101")
_MGF1 = bytes.fromhex("06092a864886f70d010108")
_TRAILER = bytes.fromhex("a303020101")  # the default, which some issuers write out


def _tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return bytes((tag, len(content))) + content


def _pss(name: bytes, salt: int, null: bytes, mask_null: bytes, trailer: bytes) -> bytes:
    digest, mask = _tlv(0x30, name, null), _tlv(0x30, name, mask_null)
    fields = (
        _tlv(0xA0, digest),
        _tlv(0xA1, _tlv(0x30, _MGF1, mask)),
        _tlv(0xA2, _tlv(0x02, bytes((salt,)))),
        trailer,
    )
    return _tlv(0x30, _RSA + b"\x0a", _tlv(0x30, *fields))


ECDSA = MappingProxyType(
    {_tlv(0x30, _ECDSA_WITH, bytes((number,))): ec.ECDSA(digest) for digest, _, number in _DIGESTS}
)
PKCS1 = MappingProxyType(
    {
        _tlv(0x30, _RSA, bytes((9 + number,)), null): (padding.PKCS1v15(), digest)
        for digest, _, number in _DIGESTS
        for null in (_NULL, _ABSENT)
    }
)
PSS = MappingProxyType(
    {
        _pss(bytes.fromhex(name), digest.digest_size, null, mask_null, trailer): (
            padding.PSS(padding.MGF1(digest), digest.digest_size),
            digest,
        )
        for digest, name, _ in _DIGESTS
        for null, mask_null, trailer in product((_NULL, _ABSENT), (_NULL, _ABSENT), (_TRAILER, _ABSENT))
    }
)
