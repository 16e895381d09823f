"""Public areas and signatures: TPMT_PUBLIC and TPMT_SIGNATURE (TPM 2.0 Library, Part 2, 12.2 and 11.3)."""

from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from ..certificates import PublicKey, pem_blocks, public_key
from ..errors import MalformedEvidence
from ..wire import Reader
from .quote import sized

RSA, ECC, NULL = 0x0001, 0x0023, 0x0010
RSASSA, RSAPSS, ECDSA = 0x0014, 0x0016, 0x0018
DEFAULT_EXPONENT = 65537
MAX_PUBLIC = 2048
MAX_SIGNATURE = 2048
_CURVES: dict[int, type[ec.EllipticCurve]] = {3: ec.SECP256R1, 4: ec.SECP384R1, 5: ec.SECP521R1}
_DIGESTS: dict[int, hashes.HashAlgorithm] = {
    0x000B: hashes.SHA256(),
    0x000C: hashes.SHA384(),
    0x000D: hashes.SHA512(),
}
_FIXED_TPM, _FIXED_PARENT, _ORIGIN = 1 << 1, 1 << 4, 1 << 5
_RESTRICTED, _DECRYPT, _SIGN = 1 << 16, 1 << 17, 1 << 18
_WANTED = {
    _FIXED_TPM: "fixedTPM",
    _FIXED_PARENT: "fixedParent",
    _ORIGIN: "sensitiveDataOrigin",
    _RESTRICTED: "restricted",
    _SIGN: "sign",
}
AttestationKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """TPMT_PUBLIC of a signing key. Parsed, not verified.

    `symmetric` and `scheme` are the fields as sent; `unique` is the modulus, or x and y.
    """

    kind: int
    name_algorithm: int
    attributes: int
    auth_policy: bytes
    symmetric: tuple[int, ...]
    scheme: tuple[int, ...]
    parameters: tuple[int, ...]
    unique: tuple[bytes, ...]

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The public area in `raw`, of an RSA or elliptic curve key; MalformedEvidence otherwise."""
        if len(raw) > MAX_PUBLIC:
            raise MalformedEvidence(f"TPMT_PUBLIC of {len(raw)} bytes exceeds {MAX_PUBLIC}")
        reader = Reader(raw, "TPMT_PUBLIC")
        kind = reader.big(2)
        if kind not in (RSA, ECC):
            raise MalformedEvidence(f"TPMT_PUBLIC of type 0x{kind:04x}")
        head = (reader.big(2), reader.big(4), reader.sized())
        symmetric, scheme = _optional(reader, 2), _optional(reader, 1)
        rest = (reader.big(2), reader.big(4)) if kind == RSA else (reader.big(2), *_optional(reader, 1))
        unique = (reader.sized(),) if kind == RSA else (reader.sized(), reader.sized())
        reader.end()
        return cls(
            kind=kind,
            name_algorithm=head[0],
            attributes=head[1],
            auth_policy=head[2],
            symmetric=symmetric,
            scheme=scheme,
            parameters=rest,
            unique=unique,
        )

    def to_bytes(self) -> bytes:
        """The TPMT_PUBLIC, byte for byte as parsed."""
        head = _u16(self.kind, self.name_algorithm) + self.attributes.to_bytes(4, "big")
        middle = sized(self.auth_policy) + _u16(*self.symmetric, *self.scheme)
        first, *rest = self.parameters
        last = rest[0].to_bytes(4, "big") if self.kind == RSA else _u16(*rest)
        return head + middle + _u16(first) + last + b"".join(sized(part) for part in self.unique)

    @property
    def missing(self) -> list[str]:
        """What keeps the key from being an attestation key: it could sign what a host made up, or move."""
        found = [name for bit, name in _WANTED.items() if not self.attributes & bit]
        return [*found, "not decrypt"] if self.attributes & _DECRYPT else found

    def key(self) -> AttestationKey:
        """The key itself; MalformedEvidence if it is not a valid one."""
        try:
            if self.kind == RSA:
                modulus = int.from_bytes(self.unique[0], "big")
                return rsa.RSAPublicNumbers(self.parameters[1] or DEFAULT_EXPONENT, modulus).public_key()
            curve = _CURVES.get(self.parameters[0])
            if curve is None:
                raise MalformedEvidence(f"TPM curve {self.parameters[0]}")
            x, y = (int.from_bytes(part, "big") for part in self.unique)
            return ec.EllipticCurvePublicNumbers(x, y, curve()).public_key()
        except (ValueError, UnsupportedAlgorithm) as error:
            raise MalformedEvidence(f"TPMT_PUBLIC holds no valid key: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A TPM's signature: TPMT_SIGNATURE, or the bare RSASSA octets that Azure's tools emit (`raw`)."""

    scheme: int
    digest: int
    values: tuple[bytes, ...]
    raw: bool = False

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The signature in `raw`; what is as long as an RSA key and no TPMT_SIGNATURE is taken as bare."""
        if len(raw) > MAX_SIGNATURE:
            raise MalformedEvidence(f"signature of {len(raw)} bytes exceeds {MAX_SIGNATURE}")
        if len(raw) in (256, 384, 512):
            return cls(scheme=RSASSA, digest=0x000B, values=(raw,), raw=True)
        reader = Reader(raw, "TPMT_SIGNATURE")
        scheme, digest = reader.big(2), reader.big(2)
        if scheme not in (RSASSA, RSAPSS, ECDSA):
            raise MalformedEvidence(f"TPMT_SIGNATURE of scheme 0x{scheme:04x}")
        values = (reader.sized(),) if scheme != ECDSA else (reader.sized(), reader.sized())
        reader.end()
        return cls(scheme=scheme, digest=digest, values=values)

    def to_bytes(self) -> bytes:
        """The signature, byte for byte as parsed."""
        if self.raw:
            return self.values[0]
        return _u16(self.scheme, self.digest) + b"".join(sized(value) for value in self.values)

    @property
    def algorithm(self) -> str | None:
        """Name of the digest, with which the registers were hashed too; None for one that is too weak."""
        digest = _DIGESTS.get(self.digest)
        return digest.name if digest else None

    def verified_by(self, key: object, signed: bytes) -> bool:
        """Whether `key` signed `signed`, with a digest of SHA-2 and, for RSA, at least 2048 bits."""
        digest = _DIGESTS.get(self.digest)
        if digest is None:
            return False
        try:
            return self._verify(key, signed, digest)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            return False

    def _verify(self, key: object, signed: bytes, digest: hashes.HashAlgorithm) -> bool:
        if isinstance(key, ec.EllipticCurvePublicKey) and self.scheme == ECDSA:
            r, s = (int.from_bytes(value, "big") for value in self.values)
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))
            return True
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size < 2048 or self.scheme == ECDSA:
            return False
        # Part 1, B.7: the salt is as long as the digest or as the key allows, by TPM profile.
        pss = padding.PSS(padding.MGF1(digest), padding.PSS.AUTO)
        key.verify(self.values[0], signed, pss if self.scheme == RSAPSS else padding.PKCS1v15(), digest)
        return True


def bare_key(raw: bytes) -> PublicKey | None:
    """The RSA or elliptic-curve key in a SubjectPublicKeyInfo, PEM or DER; None for a TPMT_PUBLIC."""
    if raw.lstrip().startswith(b"-----BEGIN PUBLIC KEY"):
        return public_key(pem_blocks(raw, b"PUBLIC KEY")[0])
    return public_key(raw) if raw[:1] == b"\x30" else None


def _optional(reader: Reader, fields: int) -> tuple[int, ...]:
    """An algorithm and its `fields` parameters, or TPM_ALG_NULL alone."""
    algorithm = reader.big(2)
    return (algorithm,) if algorithm == NULL else (algorithm, *(reader.big(2) for _ in range(fields)))


def _u16(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)
