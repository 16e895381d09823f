"""The device's certificate chain: five certificates in PEM, leaf first, under NVIDIA's device root."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Self, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .. import der
from ..errors import MalformedEvidence
from .tcb_info import COMPOSITE_DEVICE_ID, DICE_TCB_INFO, TcbInfo

CHAIN_LENGTH = 5
MAX_CHAIN = 32 * 1024
MAX_CERTIFICATES = 8
LEAF, DEVICE = 0, 1

_BLOCK = re.compile(rb"\s*-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")
ERRORS = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    Warning,  # a warning is an error where the program says so
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for certificates and OCSP responses that are not well-formed."""

_DEVICE_NAME = x509.ObjectIdentifier("1.3.6.1.4.1.412.274.1")  # DMTF: UTF8String vendor:chip:serial
T = TypeVar("T", bound=x509.ExtensionType)
_UNDERSTOOD = frozenset({x509.BasicConstraints.oid, x509.KeyUsage.oid})


@dataclass(frozen=True, slots=True)
class Certificate:
    """An X.509 certificate and the facts that a chain is judged by. Parsed, not verified."""

    raw: bytes
    parsed: x509.Certificate = field(repr=False, compare=False)
    spki: bytes = field(repr=False)
    subject: bytes
    issuer: bytes
    not_before: datetime
    not_after: datetime
    authority: bool
    path_length: int | None
    signs_certificates: bool
    signs_data: bool
    understood: bool
    name: str

    @classmethod
    def from_der(cls, raw: bytes) -> Self:
        """The certificate in `raw`; MalformedEvidence if it is not a well-formed one with a P-384 key."""
        try:
            return cls._from_x509(raw, x509.load_der_x509_certificate(raw))
        except ERRORS as error:
            raise MalformedEvidence(f"certificate does not parse: {error}") from None

    @classmethod
    def _from_x509(cls, raw: bytes, certificate: x509.Certificate) -> Self:
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            raise MalformedEvidence("a certificate's key is not on P-384")
        constraints = _extension(certificate, x509.BasicConstraints)
        usage = _extension(certificate, x509.KeyUsage)
        if certificate.serial_number <= 0 or certificate.version is not x509.Version.v3:
            raise MalformedEvidence("a certificate is not of version 3, or has no positive serial number")
        critical = {extension.oid for extension in certificate.extensions if extension.critical}
        return cls(
            raw=raw,
            parsed=certificate,
            name=_name(certificate.subject),
            spki=key.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            subject=certificate.subject.public_bytes(),
            issuer=certificate.issuer.public_bytes(),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            authority=constraints is not None and constraints.ca,
            path_length=constraints.path_length if constraints else None,
            signs_certificates=usage is not None and usage.key_cert_sign,
            signs_data=usage is not None and usage.digital_signature,
            understood=critical <= _UNDERSTOOD,
        )

    @property
    def key_id(self) -> str:
        """SHA-256 of the public key (SubjectPublicKeyInfo), hexadecimal."""
        return hashlib.sha256(self.spki).hexdigest()

    def same_key(self, other: "Certificate") -> bool:
        """Whether both name the same subject and hold the same key."""
        return self.subject == other.subject and self.spki == other.spki

    def current(self, now: datetime) -> bool:
        """Whether `now` lies within the certificate's validity."""
        return self.not_before <= now <= self.not_after

    def signed_by(self, issuer: "Certificate") -> bool:
        """Whether `issuer` may issue certificates and issued this one with ECDSA and SHA-384."""
        names = self.issuer == issuer.subject
        return names and issuer.authority and issuer.signs_certificates and _signed(self.raw, issuer.raw)


def _name(subject: x509.Name) -> str:
    """The common name, or the whole name."""
    names = subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else subject.rfc4514_string()


@dataclass(frozen=True)
class CertificateChain:
    """Certificates as offered: leaf, device, provisioner, model, root. Parsed, not verified."""

    certificates: tuple[Certificate, ...]

    @classmethod
    def from_pem(cls, raw: bytes) -> "CertificateChain":
        """The certificates in `raw`: PEM blocks and white space only, at most 8; else MalformedEvidence."""
        if len(raw) > MAX_CHAIN:
            raise MalformedEvidence(f"chain of {len(raw)} bytes exceeds {MAX_CHAIN}")
        return _chain(raw)

    @property
    def leaf(self) -> Certificate:
        """The certificate of the key that signs reports."""
        return self.certificates[LEAF]

    @property
    def complete(self) -> bool:
        """Whether there are exactly five."""
        return len(self.certificates) == CHAIN_LENGTH

    def broken_links(self, root: Certificate) -> list[str]:
        """The names of the certificates below the root that the next one up did not issue."""
        return broken_links((*self.certificates[:-1], root))

    def expired(self, now: datetime) -> list[str]:
        """The names of the certificates that are not valid at `now`."""
        return [item.name for item in self.certificates if not item.current(now)]

    @cached_property
    def device_key(self) -> str:
        """SHA-256 of the key that the maker certified for this device, whatever firmware it runs.

        The second certificate's, and of a chain cut short the only one's.
        """
        return self.certificates[min(DEVICE, len(self.certificates) - 1)].key_id

    @cached_property
    def device_name(self) -> tuple[str, str] | None:
        """(chip, serial) from the leaf's alternative name, such as ("GH100", "48B02D7A7CD27FC3")."""
        return _device_name(self.leaf.parsed)

    @cached_property
    def tcb_info(self) -> TcbInfo | None:
        """The firmware identity in the leaf, or None."""
        found = [
            TcbInfo.from_der(extension.oid.dotted_string, extension.value.public_bytes())
            for extension in self.leaf.parsed.extensions
            if extension.oid.dotted_string in (DICE_TCB_INFO, COMPOSITE_DEVICE_ID)
        ]
        if len(found) > 1:
            raise MalformedEvidence("the leaf has two TCB infos")
        return found[0] if found else None


def broken_links(certificates: Iterable[Certificate]) -> list[str]:
    """The names of the certificates that the next one did not, or may not, issue."""
    path = tuple(certificates)
    broken: list[str] = []
    for depth, (certificate, issuer) in enumerate(pairwise(path)):
        # A path length counts the authorities between an issuer and the leaf.
        too_deep = issuer.path_length is not None and depth > issuer.path_length
        if too_deep or not certificate.understood or not certificate.signed_by(issuer):
            broken.append(certificate.name)
    return broken


@lru_cache(maxsize=64)
def _chain(raw: bytes) -> CertificateChain:
    """The chain in `raw`, parsed once for equal bytes."""
    return CertificateChain(_certificates(raw))


def _certificates(raw: bytes) -> tuple[Certificate, ...]:
    found: list[Certificate] = []
    offset = 0
    while match := _BLOCK.match(raw, offset):
        if len(found) == MAX_CERTIFICATES:
            raise MalformedEvidence(f"chain of more than {MAX_CERTIFICATES} certificates")
        try:
            found.append(certificate(base64.b64decode(b"".join(match[1].split()), validate=True)))
        except binascii.Error as error:
            raise MalformedEvidence(f"chain is not PEM: {error}") from None
        offset = match.end()
    if raw[offset:].strip(b" \t\r\n\0") or not found:
        raise MalformedEvidence("chain is not a sequence of PEM certificates")
    return tuple(found)


@lru_cache(maxsize=256)
def certificate(raw: bytes) -> Certificate:
    """The certificate in `raw` (DER), parsed once for equal bytes."""
    return Certificate.from_der(raw)


@lru_cache(maxsize=512)
def _signed(raw: bytes, issuer: bytes) -> bool:
    """Whether the key of certificate `issuer` signed `raw`: a fact of the bytes alone, so kept."""
    signed = certificate(raw).parsed
    try:
        if not isinstance(signed.signature_hash_algorithm, hashes.SHA384):
            return False
        signed.verify_directly_issued_by(certificate(issuer).parsed)
    except (*ERRORS, InvalidSignature):
        return False
    return True


def _extension(source: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return source.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _device_name(leaf: x509.Certificate) -> tuple[str, str] | None:
    names = _extension(leaf, x509.SubjectAlternativeName)
    for other in names.get_values_for_type(x509.OtherName) if names else ():
        if other.type_id == _DEVICE_NAME:
            text = der.text(der.only(other.value, der.UTF8_STRING))
            vendor, _, rest = text.partition(":")
            chip, _, serial = rest.partition(":")
            return (chip.replace("_", ""), serial) if vendor == "NVIDIA" and serial else None
    return None
