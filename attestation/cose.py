"""COSE_Sign1 (RFC 9052) over strictly decoded CBOR (RFC 8949), as much of both as evidence uses.

Signatures are verified with `cryptography` directly: the Sig_structure is four items, and what a
COSE library would add is a second, laxer decoder in front of the key.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from .errors import MalformedEvidence

ES384, PS384 = -35, -38
ALGORITHM, CRITICAL, CONTENT_TYPE, X5CHAIN = 1, 2, 3, 33
SIGN1_TAG = b"\xd2"  # tag 18, in the one byte that it takes
MAX_DEPTH = 16
EPOCH_TAG = 1


class _Tags(dict[int, Callable[[Any, bool], Any]]):
    """Decoders by tag: none but the given ones, so that no tag starts a computation."""

    def __missing__(self, tag: int) -> Callable[[Any, bool], Any]:
        raise ValueError(f"CBOR tag {tag} does not belong here")


def decode(raw: bytes, *, limit: int, indefinite: bool = False) -> Any:
    """The one CBOR item that fills `raw`; maps come as dicts, arrays as lists.

    MalformedEvidence for anything over `limit` bytes, trailing bytes, duplicate keys, nesting
    beyond 16, tags other than epoch seconds (given as their number), and items of indefinite
    length unless `indefinite`: the Nitro module writes its maps so.
    """
    if len(raw) > limit:
        raise MalformedEvidence(f"CBOR of {len(raw)} bytes exceeds {limit}")
    import cbor2

    stream = io.BytesIO(raw)
    try:
        value = cbor2.CBORDecoder(
            stream,
            semantic_decoders=_Tags({EPOCH_TAG: lambda content, _: content}),
            max_depth=MAX_DEPTH,
            allow_indefinite=indefinite,
            allow_duplicate_keys=False,
        ).decode()
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise MalformedEvidence(f"not strict CBOR: {error}") from None
    if stream.tell() != len(raw):
        raise MalformedEvidence("bytes after the CBOR item")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign1:
    """A COSE_Sign1 message with its payload attached. Parsed, not verified.

    `headers` are the protected ones, decoded; unprotected ones are kept apart and never trusted.
    """

    protected: bytes
    headers: Mapping[Any, Any]
    unprotected: Mapping[Any, Any]
    payload: bytes
    signature: bytes
    tagged: bool

    @classmethod
    def from_bytes(cls, raw: bytes, *, limit: int) -> Self:
        """The message in `raw`, with or without tag 18; MalformedEvidence otherwise."""
        tagged = raw[:1] == SIGN1_TAG
        match decode(raw[1:] if tagged else raw, limit=limit):
            case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]:
                headers = decode(protected, limit=limit) if protected else {}
            case _:
                raise MalformedEvidence("not a COSE_Sign1 with an attached payload")
        if not isinstance(headers, dict):
            raise MalformedEvidence("COSE protected headers are not a map")
        if CRITICAL in headers or headers.keys() & unprotected.keys():
            raise MalformedEvidence("COSE headers that are critical and unknown, or given twice")
        return cls(
            protected=protected,
            headers=headers,
            unprotected=unprotected,
            payload=payload,
            signature=signature,
            tagged=tagged,
        )

    def verified_by(self, key: object, algorithm: int) -> bool:
        """Whether `key` signed this message with `algorithm`, which the protected headers must name."""
        if self.headers.get(ALGORITHM) != algorithm or type(self.headers.get(ALGORITHM)) is not int:
            return False
        verifiers = {ES384: _es384, PS384: _ps384}
        try:
            return verifiers[algorithm](key, self.signature, self._signed())
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            return False

    def _signed(self) -> bytes:
        """The Sig_structure (RFC 9052, 4.4), without external data."""
        import cbor2

        return bytes(cbor2.dumps(["Signature1", self.protected, b"", self.payload]))


def _es384(key: object, signature: bytes, signed: bytes) -> bool:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        return False
    if len(signature) != 96:
        return False
    r, s = (int.from_bytes(half, "big") for half in (signature[:48], signature[48:]))
    key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA384()))
    return True


def _ps384(key: object, signature: bytes, signed: bytes) -> bool:
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < 2048:
        return False
    digest = hashes.SHA384()
    # RFC 8230, 2: the salt is as long as the digest.
    key.verify(signature, signed, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    return True
