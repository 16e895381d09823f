"""Certificates and CRLs of Intel's SGX PKI: ECDSA P-256 with SHA-256 throughout."""

import binascii
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import MalformedEvidence
from . import der

MAX_CERTIFICATE = 16 * 1024
MAX_CRL = 1024 * 1024
MAX_CHAIN = 64 * 1024
MAX_CERTIFICATES = 8
ECDSA_SHA256 = ec.ECDSA(hashes.SHA256())

_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_COMMON_NAME = bytes.fromhex("0603550403")
_SGX_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
_UNDERSTOOD = frozenset({x509.BasicConstraints.oid, x509.KeyUsage.oid, _SGX_EXTENSION})
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_WHITE = b" \t\r\n"
_PARSE_ERRORS = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """An X.509 certificate and the facts that Intel's chains are judged by. Parsed, not verified."""

    der: bytes = field(repr=False)
    tbs: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    serial: int
    issuer: bytes = field(repr=False)
    subject: bytes = field(repr=False)
    common_name: str
    not_before: datetime
    not_after: datetime
    key: ec.EllipticCurvePublicKey = field(repr=False)
    authority: bool
    path_length: int | None
    signs_certificates: bool
    signs_crls: bool
    signs_data: bool
    understood: bool
    sgx_extension: bytes | None = field(repr=False)

    @classmethod
    def from_der(cls, raw: bytes) -> Self:
        """The certificate in `raw`; MalformedEvidence unless it is well-formed with a P-256 key."""
        if len(raw) > MAX_CERTIFICATE:
            raise MalformedEvidence(f"certificate of {len(raw)} bytes exceeds {MAX_CERTIFICATE}")
        tbs, signature, start, end = _signed(raw)
        serial, issuer, subject = _names(raw, start, end)
        try:
            parsed = x509.load_der_x509_certificate(raw)
            key = parsed.public_key()
            extensions = parsed.extensions
        except _PARSE_ERRORS as error:
            raise MalformedEvidence(f"certificate does not parse: {error}") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise MalformedEvidence("a certificate's key is not on P-256")
        values = {item.oid: item.value for item in extensions}
        constraints, usage = values.get(x509.BasicConstraints.oid), values.get(x509.KeyUsage.oid)
        if not isinstance(constraints, x509.BasicConstraints) or not isinstance(usage, x509.KeyUsage):
            raise MalformedEvidence("a certificate lacks basic constraints or key usage")
        sgx = values.get(_SGX_EXTENSION)
        return cls(
            der=raw,
            tbs=tbs,
            signature=signature,
            serial=serial,
            issuer=issuer,
            subject=subject,
            common_name=_common_name(subject),
            not_before=parsed.not_valid_before_utc,
            not_after=parsed.not_valid_after_utc,
            key=key,
            authority=constraints.ca,
            path_length=constraints.path_length,
            signs_certificates=usage.key_cert_sign,
            signs_crls=usage.crl_sign,
            signs_data=usage.digital_signature,
            understood=all(item.oid in _UNDERSTOOD for item in extensions if item.critical),
            sgx_extension=sgx.value if isinstance(sgx, x509.UnrecognizedExtension) else None,
        )

    def signed(self, signature: bytes, data: bytes) -> bool:
        """Whether `signature` (DER) over `data` is this key's, by ECDSA with SHA-256."""
        return verified(self.key, signature, data)

    def issued(self, child: "Certificate") -> bool:
        """Whether this authority's name and key are on `child`."""
        named = self.authority and self.signs_certificates and child.issuer == self.subject
        return named and self.signed(child.signature, child.tbs)


@dataclass(frozen=True, slots=True, eq=False)
class Crl:
    """A certificate revocation list. Parsed, not verified."""

    tbs: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    issuer: bytes = field(repr=False)
    this_update: datetime
    next_update: datetime
    parsed: x509.CertificateRevocationList = field(repr=False)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The CRL in `raw` (DER); MalformedEvidence for what does not parse or speaks of a part only."""
        if len(raw) > MAX_CRL:
            raise MalformedEvidence(f"CRL of {len(raw)} bytes exceeds {MAX_CRL}")
        tbs, signature, start, end = _signed(raw)
        tag, _, stop = der.element(raw, start, end)
        if tag == der.INTEGER:  # version, absent in v1
            start = stop
        _, _, start = der.element(raw, start, end)
        _, stop = der.sequence(raw, start, end)
        try:
            crl = x509.load_der_x509_crl(raw)
            critical = any(extension.critical for extension in crl.extensions)
            next_update = crl.next_update_utc
        except _PARSE_ERRORS as error:
            raise MalformedEvidence(f"CRL does not parse: {error}") from None
        if critical or next_update is None:
            raise MalformedEvidence("CRL with a critical extension, or without a next update")
        return cls(tbs, signature, raw[start:stop], crl.last_update_utc, next_update, crl)

    def lists(self, serial: int) -> bool:
        """Whether the certificate with this serial number is revoked."""
        return self.parsed.get_revoked_certificate_by_serial_number(serial) is not None


def verified(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    """Whether `signature` (DER) over `data` is by `key`, ECDSA with SHA-256."""
    try:
        key.verify(signature, data, ECDSA_SHA256)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=64)
def certificate(raw: bytes) -> Certificate:
    """`Certificate.from_der`, remembered."""
    return Certificate.from_der(raw)


@lru_cache(maxsize=32)
def anchor(root: bytes) -> Certificate:
    """A trust anchor (DER) as a `Certificate`; MalformedEvidence if it is not of Intel's kind."""
    return Certificate.from_der(root)


def pem_chain(raw: bytes) -> tuple[bytes, ...]:
    """The DER of the PEM certificates in `raw`, leaf first; white space and final zero bytes may follow."""
    if len(raw) > MAX_CHAIN:
        raise MalformedEvidence(f"certificate chain of {len(raw)} bytes exceeds {MAX_CHAIN}")
    *blocks, rest = raw.split(_END)
    if not 0 < len(blocks) <= MAX_CERTIFICATES or rest.strip(_WHITE + b"\0"):
        raise MalformedEvidence(f"not a chain of 1 to {MAX_CERTIFICATES} PEM certificates")
    return tuple(_pem_block(block) for block in blocks)


def _pem_block(block: bytes) -> bytes:
    before, _, digits = block.partition(_BEGIN)
    try:
        digits = digits.translate(None, _WHITE)
        decoded = binascii.a2b_base64(digits, strict_mode=True)
    except binascii.Error as error:
        raise MalformedEvidence(f"certificate is not base64: {error}") from None
    if before.strip(_WHITE) or not decoded or binascii.b2a_base64(decoded, newline=False) != digits:
        raise MalformedEvidence("something else than PEM certificates in a chain")
    return decoded


def _signed(raw: bytes) -> tuple[bytes, bytes, int, int]:
    """To-be-signed bytes, signature, and where the content of the former starts and ends."""
    start, end = der.sequence(raw, 0, len(raw))
    if end != len(raw):
        raise MalformedEvidence("bytes after a certificate or CRL")
    inner, tbs_end = der.sequence(raw, start, end)
    _, algorithm_end = der.sequence(raw, tbs_end, end)
    tag, bits, bits_end = der.element(raw, algorithm_end, end)
    if tag != der.BIT_STRING or bits_end != end or bits == bits_end or raw[bits] != 0:
        raise MalformedEvidence("certificate or CRL without a signature")
    if raw[tbs_end:algorithm_end] != _ECDSA_WITH_SHA256:
        raise MalformedEvidence("certificate or CRL not signed with ECDSA and SHA-256")
    return raw[start:tbs_end], raw[bits + 1 : end], inner, tbs_end


def _names(raw: bytes, start: int, end: int) -> tuple[int, bytes, bytes]:
    """Serial number, issuer and subject of the TBSCertificate content between `start` and `end`."""
    tag, _, stop = der.element(raw, start, end)
    if tag == 0xA0:  # version, absent in v1
        start = stop
    tag, content, stop = der.element(raw, start, end)
    serial = der.unsigned(raw[content:stop])
    if tag != der.INTEGER or serial == 0:
        raise MalformedEvidence("certificate without a positive serial number")
    _, algorithm_end = der.sequence(raw, stop, end)
    if raw[stop:algorithm_end] != _ECDSA_WITH_SHA256:
        raise MalformedEvidence("a certificate's two signature algorithms differ")
    _, issuer_end = der.sequence(raw, algorithm_end, end)
    _, validity_end = der.sequence(raw, issuer_end, end)
    _, subject_end = der.sequence(raw, validity_end, end)
    return serial, raw[algorithm_end:issuer_end], raw[validity_end:subject_end]


def _common_name(name: bytes) -> str:
    """The one common name in a DER Name; empty if there is none or more than one."""
    at = name.find(_COMMON_NAME)
    if at < 0 or name.find(_COMMON_NAME, at + 1) >= 0:
        return ""
    _, start, end = der.element(name, at + len(_COMMON_NAME), len(name))
    return name[start:end].decode("ascii", "replace")
