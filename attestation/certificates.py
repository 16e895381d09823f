"""X.509 certificates (RFC 5280): parsing, one issuer signature, validity; all defects are MalformedEvidence.

Vendors' certificates carry serial number 0 and other things that general parsers warn of or
refuse, so the frame is read here; keys and signatures are `cryptography`'s. What depends on
bytes alone is remembered; validity is judged each time.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from . import der
from .der import Element, Elements
from .errors import MalformedEvidence

MAX_CERTIFICATE = 16 * 1024
MAX_PEM = 256 * 1024
MAX_CERTIFICATES = 16
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

KEY_USAGE = "2.5.29.15"
BASIC_CONSTRAINTS = "2.5.29.19"
_COMMON_NAME = bytes.fromhex("550403")  # 2.5.4.3
_PSS = "1.2.840.113549.1.1.10"
_MGF1 = "1.2.840.113549.1.1.8"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "2.16.840.1.101.3.4.2.1": hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}
_ECDSA: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.10045.4.3.2": hashes.SHA256(),
    "1.2.840.10045.4.3.3": hashes.SHA384(),
    "1.2.840.10045.4.3.4": hashes.SHA512(),
}
_PKCS1: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.113549.1.1.11": hashes.SHA256(),
    "1.2.840.113549.1.1.12": hashes.SHA384(),
    "1.2.840.113549.1.1.13": hashes.SHA512(),
}
_PEM = re.compile(rb"-----BEGIN (CERTIFICATE|X509 CRL)-----([A-Za-z0-9+/=\s]+)-----END \1-----")


class Extension(NamedTuple):
    """An extension's value (the content of its OCTET STRING) and whether it is critical."""

    value: bytes
    critical: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """An X.509 v3 certificate, parsed, not verified. Names, key and algorithm are DER.

    Two are equal if their bytes are.
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
    extensions: Mapping[str, Extension] = field(repr=False, compare=False)
    signature: bytes = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The subject's common name; empty if it has none."""
        return common_name(self.subject)

    def valid_at(self, now: datetime) -> bool:
        """Whether `now` lies within the validity, ends included."""
        return self.not_before <= now <= self.not_after

    def issued_by(self, issuer: "Certificate") -> bool:
        """Whether `issuer` is named as issuer, may sign certificates, and signed this one."""
        if self.issuer != issuer.subject or not is_authority(issuer):
            return False
        return signed_by(self.signed, self.algorithm, self.signature, issuer.spki)


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
    """The DER of each PEM block; only white space and zeros may stand between blocks."""
    if len(raw) > MAX_PEM:
        raise MalformedEvidence(f"PEM of {len(raw)} bytes exceeds {MAX_PEM}")
    found: list[bytes] = []
    offset = 0
    for match in _PEM.finditer(raw):
        if raw[offset : match.start()].strip(b" \t\r\n\0") or match[1] != label:
            raise MalformedEvidence(f"something else than PEM blocks of {label.decode()}")
        offset = match.end()
        try:
            found.append(base64.b64decode(b"".join(match[2].split()), validate=True))
        except binascii.Error as error:
            raise MalformedEvidence(f"PEM is not base64: {error}") from None
    if not found or len(found) > MAX_CERTIFICATES or raw[offset:].strip(b" \t\r\n\0"):
        raise MalformedEvidence(f"not PEM of 1 to {MAX_CERTIFICATES} blocks, nor DER")
    return found


@lru_cache(maxsize=256)
def from_der(raw: bytes) -> Certificate:
    """The certificate that fills `raw`; MalformedEvidence otherwise."""
    if len(raw) > MAX_CERTIFICATE:
        raise MalformedEvidence(f"certificate of {len(raw)} bytes exceeds {MAX_CERTIFICATE}")
    outer = der.only(raw, der.SEQUENCE).children()
    body, algorithm, signature = outer.take(der.SEQUENCE), outer.take(der.SEQUENCE), der.bits(outer.take())
    outer.close()
    inner = body.children()
    if der.integer(der.only(inner.take(0xA0).content)) != 2:
        raise MalformedEvidence("certificate is not of version 3")
    serial = der.integer(inner.take())
    if inner.take(der.SEQUENCE).raw != algorithm.raw:
        raise MalformedEvidence("certificate names two signature algorithms")
    issuer, validity = inner.take(der.SEQUENCE), inner.take(der.SEQUENCE).children()
    not_before, not_after = der.instant(validity.take()), der.instant(validity.take())
    validity.close()
    subject, spki = inner.take(der.SEQUENCE), inner.take(der.SEQUENCE)
    tagged = inner.optional(0xA3)
    inner.close()
    return Certificate(
        raw=raw,
        signed=body.raw,
        serial=serial,
        algorithm=algorithm.raw,
        issuer=issuer.raw,
        subject=subject.raw,
        not_before=not_before,
        not_after=not_after,
        spki=spki.raw,
        extensions=read_extensions(der.only(tagged.content, der.SEQUENCE) if tagged else None),
        signature=signature,
    )


def read_extensions(sequence: Element | None) -> Mapping[str, Extension]:
    """The extensions by object identifier; one that is there twice is malformed."""
    found: dict[str, Extension] = {}
    raw, offset = (sequence.content, 0) if sequence else (b"", 0)
    while offset < len(raw):
        tag, start, offset = der.header(raw, offset)
        name_tag, name_start, name_end = der.header(raw, start)
        flag_tag, flag_start, flag_end = der.header(raw, name_end)
        if flag_tag == der.BOOLEAN:
            critical = der.boolean(Element(flag_tag, raw[flag_start:flag_end], b""))
            value_tag, value_start, end = der.header(raw, flag_end)
        else:
            critical, value_tag, value_start, end = False, flag_tag, flag_start, flag_end
        name = der.dotted(raw[name_start:name_end])
        if (tag, name_tag, value_tag, end) != (der.SEQUENCE, der.OID, der.OCTET_STRING, offset):
            raise MalformedEvidence("an extension is not a name, perhaps a flag, and a value")
        if name in found:
            raise MalformedEvidence(f"extension {name} is there twice")
        found[name] = Extension(raw[value_start:end], critical)
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


@lru_cache(maxsize=256)
def is_authority(certificate: Certificate) -> bool:
    """Whether basic constraints say authority and key usage, if present, says keyCertSign."""
    constraints = certificate.extensions.get(BASIC_CONSTRAINTS)
    if constraints is None:
        return False
    flag = der.only(constraints.value, der.SEQUENCE).children().optional(der.BOOLEAN)
    usage = certificate.extensions.get(KEY_USAGE)
    may_sign = usage is None or _usage_bits(usage.value) & 0x04 != 0
    return flag is not None and der.boolean(flag) and may_sign


def _usage_bits(value: bytes) -> int:
    """The first octet of a KeyUsage; keyCertSign is 0x04, cRLSign 0x02."""
    content = der.only(value, der.BIT_STRING).content
    return content[1] if len(content) > 1 else 0


def signs_crls(certificate: Certificate) -> bool:
    """Whether key usage, if present, says cRLSign."""
    usage = certificate.extensions.get(KEY_USAGE)
    return usage is None or _usage_bits(usage.value) & 0x02 != 0


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
def signed_by(signed: bytes, algorithm: bytes, signature: bytes, spki: bytes) -> bool:
    """Whether the key `spki` made `signature` over `signed` under the DER AlgorithmIdentifier.

    ECDSA, RSA PKCS #1 v1.5 and RSASSA-PSS with SHA-256, -384 or -512 (PSS: MGF1 with the same hash,
    salt as long as the hash); false for any other algorithm or a key that does not fit.
    """
    key = public_key(spki)
    parts = der.only(algorithm, der.SEQUENCE).children()
    name, rest = der.oid(parts.take(der.OID)), parts
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            if name not in _ECDSA or rest:
                return False
            key.verify(signature, signed, ec.ECDSA(_ECDSA[name]))
        elif name in _PKCS1:
            key.verify(signature, signed, padding.PKCS1v15(), _PKCS1[name])
        else:
            digest = pss_hash(algorithm)
            if digest is None:
                return False
            mask = padding.MGF1(digest)
            key.verify(signature, signed, padding.PSS(mask, salt_length=digest.digest_size), digest)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


@lru_cache(maxsize=64)
def pss_hash(algorithm: bytes) -> hashes.HashAlgorithm | None:
    """The hash of an RSASSA-PSS AlgorithmIdentifier (RFC 4055), or None if it is not one we accept."""
    parts = der.only(algorithm, der.SEQUENCE).children()
    if der.oid(parts.take(der.OID)) != _PSS or not parts:
        return None
    fields = parts.take(der.SEQUENCE).children()
    parts.close()
    if fields.peek() != 0xA0:
        return None  # SHA-1 by default
    digest = _hash(der.only(fields.take(0xA0).content, der.SEQUENCE).children())
    mask = fields.optional(0xA1)
    salt, trailer = fields.optional(0xA2), fields.optional(0xA3)
    fields.close()
    if digest is None or mask is None or salt is None:
        return None
    mgf = der.only(mask.content, der.SEQUENCE).children()
    same = der.oid(mgf.take(der.OID)) == _MGF1 and _hash(mgf.take(der.SEQUENCE).children()) is digest
    length = der.integer(der.only(salt.content))
    plain = trailer is None or der.integer(der.only(trailer.content)) == 1
    return digest if same and plain and length == digest.digest_size else None


def _hash(parts: Elements) -> hashes.HashAlgorithm | None:
    return _HASHES.get(der.oid(parts.take(der.OID)))
