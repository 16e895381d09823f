"""COSE_Sign1 (RFC 9052) over documents of ours: one deterministic form, two algorithms, one key in each.

A reader of other people's COSE is attestation's; this one signs too, takes nothing but the form that it
writes, and shares no code with it because the two packages know nothing of each other (docs/adr/0006).
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from .errors import LocalProtocolError, MalformedDocument, SignatureRefused

EDDSA: Final = -8
ES384: Final = -35
ALGORITHM, CONTENT_TYPE, KEY_ID = 1, 3, 4

SigningKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
VerifyingKey = Ed25519PublicKey | ec.EllipticCurvePublicKey

_TAG: Final = 18
_SIZES: Final = {EDDSA: 64, ES384: 96}


@dataclass(frozen=True, slots=True)
class Signer:
    """A public key, Ed25519 or P-384, as documents name it: its SubjectPublicKeyInfo in DER."""

    spki: bytes

    @classmethod
    def of(cls, key: SigningKey | VerifyingKey) -> Self:
        """The signer that `key` belongs to. Raises LocalProtocolError for another kind of key."""
        public = key.public_key() if isinstance(key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey) else key
        _algorithm(public)
        return cls(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    @property
    def hash(self) -> bytes:
        """SHA-256 of the SubjectPublicKeyInfo, 32 bytes."""
        return hashlib.sha256(self.spki).digest()

    def key(self) -> VerifyingKey:
        """The public key. Raises MalformedDocument unless it is one, in its one encoding."""
        try:
            key = load_der_public_key(self.spki)
        except (ValueError, UnsupportedAlgorithm):
            raise MalformedDocument("a signer's key is not a public key in DER") from None
        if not isinstance(key, Ed25519PublicKey | ec.EllipticCurvePublicKey) or _named(key) is None:
            raise MalformedDocument("a signer's key is neither Ed25519 nor P-384")
        if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != self.spki:
            raise MalformedDocument("a signer's key is not in its one encoding")
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign1:
    """A signed document. Parsed, not verified."""

    algorithm: int
    content_type: str
    key_id: bytes
    payload: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """Tag 18, deterministic CBOR (RFC 8949, 4.2.1)."""
        import cbor2

        protected = _protected(self.algorithm, self.content_type, self.key_id)
        message = cbor2.CBORTag(_TAG, [protected, {}, self.payload, self.signature])
        return bytes(cbor2.dumps(message, canonical=True))

    @classmethod
    def from_bytes(cls, raw: bytes, *, limit: int) -> Self:
        """The message in `raw`, at most `limit` bytes. Raises MalformedDocument for any but its one form."""
        if len(raw) > limit:
            raise MalformedDocument(f"a signed document of {len(raw)} bytes exceeds {limit}")
        headers, payload, signature = _items(_decode(raw))
        algorithm, content_type, key_id = _headers(_decode(headers))
        message = cls(
            algorithm=algorithm,
            content_type=content_type,
            key_id=key_id,
            payload=payload,
            signature=signature,
        )
        if message.to_bytes() != raw:
            raise MalformedDocument("a COSE_Sign1 that is not in its one form")
        return message

    def check(self, signer: Signer, content_type: str) -> None:
        """Raise SignatureRefused unless `signer` signed this as a document of `content_type`."""
        if self.content_type != content_type:
            raise SignatureRefused(f"signed as {self.content_type!r}, not as {content_type!r}")
        key = signer.key()
        if self.key_id != signer.hash or self.algorithm != _algorithm(key):
            raise SignatureRefused("signed by another key than the document's signer")
        signed = _signed(_protected(self.algorithm, self.content_type, self.key_id), self.payload)
        try:
            _verify(key, self.signature, signed)
        except (InvalidSignature, ValueError):
            raise SignatureRefused("the signature does not verify") from None


def sign(payload: bytes, content_type: str, key: SigningKey) -> bytes:
    """`payload` signed as `content_type`: COSE_Sign1, as bytes. Raises LocalProtocolError for other keys."""
    signer = Signer.of(key)
    algorithm = _algorithm(key.public_key())
    signed = _signed(_protected(algorithm, content_type, signer.hash), payload)
    return Sign1(
        algorithm=algorithm,
        content_type=content_type,
        key_id=signer.hash,
        payload=payload,
        signature=_make(key, signed),
    ).to_bytes()


class _Tags(dict[int, Callable[[Any, bool], Any]]):
    """Decoders by tag: COSE_Sign1's alone, so that no tag starts a computation."""

    def __missing__(self, tag: int) -> Callable[[Any, bool], Any]:
        raise ValueError(f"CBOR tag {tag}")


def _decode(raw: bytes) -> object:
    """One CBOR item; trailing bytes and other spellings are found by encoding again."""
    import cbor2

    tags = _Tags({_TAG: lambda content, _: ("COSE_Sign1", content)})
    try:
        return cbor2.CBORDecoder(
            io.BytesIO(raw),
            semantic_decoders=tags,
            max_depth=4,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        ).decode()
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError):
        raise MalformedDocument("not a COSE_Sign1: not CBOR") from None


def _items(value: object) -> tuple[bytes, bytes, bytes]:
    match value:
        case ("COSE_Sign1", [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]):
            if not unprotected:
                return protected, payload, signature
    raise MalformedDocument("not a COSE_Sign1 with an attached payload and protected headers alone")


def _headers(value: object) -> tuple[int, str, bytes]:
    match value:
        case {1: int(algorithm), 3: str(content_type), 4: bytes(key_id)} if algorithm in _SIZES:
            return algorithm, content_type, key_id
    raise MalformedDocument("a COSE_Sign1 without algorithm, content type and key id")


def _protected(algorithm: int, content_type: str, key_id: bytes) -> bytes:
    import cbor2

    headers = {ALGORITHM: algorithm, CONTENT_TYPE: content_type, KEY_ID: key_id}
    return bytes(cbor2.dumps(headers, canonical=True))


def _signed(protected: bytes, payload: bytes) -> bytes:
    """The Sig_structure (RFC 9052, 4.4), without external data."""
    import cbor2

    return bytes(cbor2.dumps(["Signature1", protected, b"", payload]))


def _named(key: VerifyingKey) -> int | None:
    if isinstance(key, Ed25519PublicKey):
        return EDDSA
    return ES384 if isinstance(key.curve, ec.SECP384R1) else None


def _algorithm(key: object) -> int:
    named = _named(key) if isinstance(key, Ed25519PublicKey | ec.EllipticCurvePublicKey) else None
    if named is None:
        raise LocalProtocolError("documents are signed with Ed25519 or P-384 keys")
    return named


def _make(key: SigningKey, signed: bytes) -> bytes:
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(signed)
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA384())))
    return r.to_bytes(48) + s.to_bytes(48)


def _verify(key: VerifyingKey, signature: bytes, signed: bytes) -> None:
    if isinstance(key, Ed25519PublicKey):
        key.verify(signature, signed)
        return
    if len(signature) != _SIZES[ES384]:
        raise InvalidSignature
    r, s = (int.from_bytes(half, "big") for half in (signature[:48], signature[48:]))
    key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA384()))
