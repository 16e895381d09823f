"""X.509 certificates (RFC 5280): parsing, one issuer signature, validity; all defects are MalformedEvidence.

Vendors' certificates carry serial number 0 and other things that general X.509 parsers warn of or
refuse, so the frame is declared in `pkix`; decoding, keys and signatures are `cryptography`'s.
What depends on bytes alone is remembered; validity is judged each time.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from . import algorithms, der, pkix
from .errors import MalformedEvidence
from .usage import SIGNS_CERTIFICATES, SIGNS_CRLS, Extensions, constraints, key_usage

MAX_CERTIFICATE = 16 * 1024
MAX_PEM = 256 * 1024
MAX_CERTIFICATES = 16
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_COMMON_NAME = bytes.fromhex("550403")  # 2.5.4.3
_VERSION_3 = 2
_PEM = re.compile(rb"-----BEGIN (CERTIFICATE|X509 CRL|PUBLIC KEY)-----([A-Za-z0-9+/=\s]+)-----END \1-----")


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """An X.509 v3 certificate, parsed, not verified. Names, key and algorithm are DER.

    Two are equal if their bytes are. What few ask for is read when it is asked for, then kept.
    """

    raw: bytes
    signed: bytes = field(repr=False, compare=False)
    serial: int = field(compare=False)
    algorithm: bytes = field(repr=False, compare=False)
    issuer: bytes = field(repr=False, compare=False)
    subject: bytes = field(repr=False, compare=False)
    not_before: datetime = field(compare=False)
    not_after: datetime = field(compare=False)
    spki: bytes = field(repr=False, compare=False)
    extensions: Extensions = field(repr=False, compare=False)
    signature: bytes = field(repr=False, compare=False)

    @cached_property
    def name(self) -> str:
        """The subject's common name; empty if it has none."""
        return common_name(self.subject)

    @cached_property
    def key(self) -> PublicKey:
        """The public key; MalformedEvidence if it is neither RSA nor elliptic-curve."""
        return public_key(self.spki)

    @cached_property
    def authority(self) -> bool:
        """Whether basic constraints say authority and key usage, if present, says keyCertSign."""
        may_sign = key_usage(self.extensions)
        signs = may_sign is None or may_sign & SIGNS_CERTIFICATES != 0
        return bool(constraints(self.extensions).authority) and signs

    @cached_property
    def validity(self) -> str:
        """The first and the last day, for a reader."""
        return f"{self.not_before.date()} to {self.not_after.date()}"

    def valid_at(self, now: datetime) -> bool:
        """Whether `now` lies within the validity, ends included."""
        return self.not_before <= now <= self.not_after

    def issued_by(self, issuer: "Certificate") -> bool:
        """Whether `issuer` is named as issuer, may sign certificates, and signed this one."""
        if self.issuer != issuer.subject or not issuer.authority:
            return False
        return signed_by(self.signed, self.algorithm, self.signature, issuer)


def load(raw: bytes) -> Certificate:
    """The certificate in `raw`, DER or PEM; MalformedEvidence if it is not exactly one."""
    found = load_all(raw)
    if len(found) != 1:
        raise MalformedEvidence(f"{len(found)} certificates where one belongs")
    return found[0]


@lru_cache(maxsize=64)
def load_all(raw: bytes) -> tuple[Certificate, ...]:
    """The certificates in `raw`: one in DER, or PEM blocks."""
    if raw[:1] == b"\x30":
        return (from_der(raw),)
    return tuple(from_der(item) for item in pem_blocks(raw, b"CERTIFICATE"))


def pem_blocks(raw: bytes, label: bytes) -> list[bytes]:
    """The DER of each PEM block; only white space may stand between blocks, and zeros after them."""
    if len(raw) > MAX_PEM:
        raise MalformedEvidence(f"PEM of {len(raw)} bytes exceeds {MAX_PEM}")
    found: list[bytes] = []
    offset = 0
    for match in _PEM.finditer(raw):
        if raw[offset : match.start()].strip() or match[1] != label:
            raise MalformedEvidence(f"something else than PEM blocks of {label.decode()}")
        offset = match.end()
        try:
            found.append(binascii.a2b_base64(b"".join(match[2].split()), strict_mode=True))
        except binascii.Error as error:
            raise MalformedEvidence(f"PEM is not base64: {error}") from None
    if not found or len(found) > MAX_CERTIFICATES or raw[offset:].strip(b" \t\r\n\0"):
        raise MalformedEvidence(f"not PEM of 1 to {MAX_CERTIFICATES} blocks, nor DER")
    return found


def chained(files: Iterable[bytes]) -> bytes:
    """The certificates of several files as one PEM, each before its issuer as far as names say."""
    left = [item for raw in files for item in load_all(raw)]
    issuers = {item.issuer for item in left if item.issuer != item.subject}
    following = next((item for item in left if item.subject not in issuers), left[0])
    blocks: list[bytes] = []
    while left:
        left.remove(following)
        blocks.append(pem(following.raw))
        following = next(
            (item for item in left if item.subject == following.issuer), left[0] if left else following
        )
    return b"".join(blocks)


def pem(der_bytes: bytes) -> bytes:
    """One certificate in PEM."""
    digits = base64.encodebytes(der_bytes)
    return b"-----BEGIN CERTIFICATE-----\n" + digits + b"-----END CERTIFICATE-----\n"


@lru_cache(maxsize=256)
def from_der(raw: bytes) -> Certificate:
    """The certificate that fills `raw`; MalformedEvidence otherwise."""
    return _read(raw)


@lru_cache(maxsize=64)
def anchor(raw: bytes) -> Certificate:
    """A trust anchor (DER), remembered apart: certificates that evidence brings do not displace it."""
    return _read(raw)


def _read(raw: bytes) -> Certificate:
    if len(raw) > MAX_CERTIFICATE:
        raise MalformedEvidence(f"certificate of {len(raw)} bytes exceeds {MAX_CERTIFICATE}")
    outer = pkix.decode(pkix.Signed, raw)
    signed, algorithm = pkix.encoded(outer.body), pkix.encoded(outer.algorithm)
    body = pkix.decode(pkix.TbsCertificate, signed)
    if body.version != _VERSION_3:
        raise MalformedEvidence("certificate is not of version 3")
    if pkix.encoded(body.algorithm) != algorithm:
        raise MalformedEvidence("certificate names two signature algorithms")
    return Certificate(
        raw=raw,
        signed=signed,
        serial=body.serial,
        algorithm=algorithm,
        issuer=pkix.encoded(body.issuer),
        subject=pkix.encoded(body.subject),
        not_before=pkix.instant(body.validity.not_before),
        not_after=pkix.instant(body.validity.not_after),
        spki=pkix.encoded(body.spki),
        extensions=read_extensions(body.extensions),
        signature=pkix.octets(outer.signature),
    )


def read_extensions(listed: Sequence[pkix.Extension] | None) -> Extensions:
    """The extensions by object identifier; one that is there twice is malformed."""
    listed = listed or ()
    found = {item.name: item for item in listed}
    if len(found) != len(listed):
        raise MalformedEvidence("an extension is there twice")
    return MappingProxyType(found)


@lru_cache(maxsize=256)
def common_name(name: bytes) -> str:
    """The first common name in a DER Name of single attributes; empty if there is none."""
    content = der.only(name, der.SEQUENCE).content
    offset = 0
    while offset < len(content):
        _, start, offset = der.header(content, offset)
        attribute, start, end = der.header(content, start)
        kind, start, value = der.header(content, start)
        if attribute == der.SEQUENCE and kind == der.OID and content[start:value] == _COMMON_NAME:
            return der.text(der.only(content[value:end]))
    return ""


def signs_crls(certificate: Certificate) -> bool:
    """Whether key usage, if present, says cRLSign."""
    usage = key_usage(certificate.extensions)
    return usage is None or usage & SIGNS_CRLS != 0


@lru_cache(maxsize=256)
def public_key(spki: bytes) -> PublicKey:
    """The RSA or elliptic-curve key in a SubjectPublicKeyInfo; MalformedEvidence for any other."""
    try:
        key = load_der_public_key(spki)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MalformedEvidence(f"public key does not load: {error}") from None
    if not isinstance(key, PublicKey):
        raise MalformedEvidence("public key is neither RSA nor elliptic-curve")
    return key


@lru_cache(maxsize=512)
def signed_by(signed: bytes, algorithm: bytes, signature: bytes, issuer: Certificate) -> bool:
    """Whether the key of `issuer` made `signature` over `signed` under the DER AlgorithmIdentifier.

    ECDSA, RSA PKCS #1 v1.5 and RSASSA-PSS with SHA-256, -384 or -512 (PSS: MGF1 with the same hash,
    salt as long as the hash); false for any other algorithm or a key that does not fit.
    """
    key = issuer.key
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            ecdsa = algorithms.ECDSA.get(algorithm)
            if ecdsa is None:
                return False
            key.verify(signature, signed, ecdsa)
            return True
        padded = algorithms.PKCS1.get(algorithm) or algorithms.PSS.get(algorithm)
        if padded is None:
            return False
        key.verify(signature, signed, *padded)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True
