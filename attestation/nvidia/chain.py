"""The device's certificate chain: five certificates in PEM, leaf first, under NVIDIA's device root."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from .. import algorithms, der
from .. import certificates as x509_frame
from ..errors import MalformedEvidence
from ..pkix import ObjectIdentifier
from ..usage import BASIC_CONSTRAINTS, KEY_USAGE, SIGNS_CERTIFICATES, SIGNS_DATA, constraints, key_usage
from .tcb_info import COMPOSITE_DEVICE_ID, DICE_TCB_INFO, TcbInfo

CHAIN_LENGTH = 5
MAX_CHAIN = 32 * 1024
MAX_CERTIFICATES = 8
LEAF, DEVICE = 0, 1

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

_ALTERNATIVE_NAME = ObjectIdentifier("2.5.29.17")
_OTHER_NAME, _EXPLICIT_0 = 0xA0, 0xA0
_DEVICE_NAME = "1.3.6.1.4.1.412.274.1"  # DMTF: UTF8String vendor:chip:serial
_UNDERSTOOD = frozenset({BASIC_CONSTRAINTS, KEY_USAGE})


@dataclass(frozen=True)
class Certificate:
    """An X.509 certificate and the facts that a chain is judged by. Parsed, not verified."""

    raw: bytes
    frame: x509_frame.Certificate = field(repr=False, compare=False)
    key: ec.EllipticCurvePublicKey = field(repr=False, compare=False)
    authority: bool
    path_length: int | None
    signs_certificates: bool
    signs_data: bool
    understood: bool
    name: str

    @classmethod
    def of(cls, read: x509_frame.Certificate) -> Self:
        """The facts in a certificate; MalformedEvidence if it is not a well-formed one with a P-384 key."""
        key = read.key
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            raise MalformedEvidence("a certificate's key is not on P-384")
        if read.serial <= 0:
            raise MalformedEvidence("a certificate has no positive serial number")
        limits, usage = constraints(read.extensions), key_usage(read.extensions) or 0
        critical = {name for name, item in read.extensions.items() if item.critical}
        return cls(
            raw=read.raw,
            frame=read,
            key=key,
            name=read.name or read.subject.hex(),
            authority=bool(limits.authority),
            path_length=limits.path_length,
            signs_certificates=usage & SIGNS_CERTIFICATES != 0,
            signs_data=usage & SIGNS_DATA != 0,
            understood=critical <= _UNDERSTOOD,
        )

    @property
    def parsed(self) -> x509.Certificate:
        """The same for `cryptography`, which speaks OCSP; raises one of `ERRORS` if it does not take it."""
        return x509.load_der_x509_certificate(self.raw)

    @property
    def spki(self) -> bytes:
        """The public key as a SubjectPublicKeyInfo in DER."""
        return self.frame.spki

    @property
    def not_before(self) -> datetime:
        """The start of the validity."""
        return self.frame.not_before

    @property
    def not_after(self) -> datetime:
        """The end of the validity."""
        return self.frame.not_after

    @cached_property
    def key_id(self) -> str:
        """SHA-256 of the public key (SubjectPublicKeyInfo), hexadecimal."""
        return hashlib.sha256(self.spki).hexdigest()

    def same_key(self, other: "Certificate") -> bool:
        """Whether both name the same subject and hold the same key."""
        return self.frame.subject == other.frame.subject and self.spki == other.spki

    def current(self, now: datetime) -> bool:
        """Whether `now` lies within the certificate's validity."""
        return self.frame.valid_at(now)

    def signed_by(self, issuer: "Certificate") -> bool:
        """Whether `issuer` may issue certificates and issued this one with ECDSA and SHA-384."""
        mine, named = self.frame, self.frame.issuer == issuer.frame.subject
        if not (named and issuer.authority and issuer.signs_certificates):
            return False
        ecdsa = algorithms.ECDSA.get(mine.algorithm)
        fits = ecdsa is not None and isinstance(ecdsa.algorithm, hashes.SHA384)
        return fits and x509_frame.signed_by(mine.signed, mine.algorithm, mine.signature, issuer.frame)


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
        names = self.leaf.frame.extensions.get(_ALTERNATIVE_NAME)
        return _device_name(names.value) if names else None

    @cached_property
    def tcb_info(self) -> TcbInfo | None:
        """The firmware identity in the leaf, or None."""
        found = [
            TcbInfo.from_der(name, item.value)
            for name, item in self.leaf.frame.extensions.items()
            if name in (DICE_TCB_INFO, COMPOSITE_DEVICE_ID)
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
    blocks = x509_frame.pem_blocks(raw, b"CERTIFICATE")
    if len(blocks) > MAX_CERTIFICATES:
        raise MalformedEvidence(f"chain of more than {MAX_CERTIFICATES} certificates")
    return tuple(certificate(block) for block in blocks)


@lru_cache(maxsize=256)
def certificate(raw: bytes) -> Certificate:
    """The certificate in `raw` (DER), parsed once for equal bytes."""
    return Certificate.of(x509_frame.from_der(raw))


@lru_cache(maxsize=16)
def anchor(raw: bytes) -> Certificate:
    """A trust anchor (DER), remembered apart: certificates that evidence brings do not displace it."""
    return Certificate.of(x509_frame.anchor(raw))


def _device_name(value: bytes) -> tuple[str, str] | None:
    """Chip and serial in a SubjectAlternativeName, from its DMTF name "NVIDIA:chip:serial"."""
    for name in der.only(value, der.SEQUENCE).children():
        if name.tag != _OTHER_NAME:
            continue
        parts = name.children()
        kind, text = parts.take(der.OID), parts.take(_EXPLICIT_0)
        if der.oid(kind) == _DEVICE_NAME:
            vendor, _, rest = der.text(der.only(text.content, der.UTF8_STRING)).partition(":")
            chip, _, serial = rest.partition(":")
            return (chip.replace("_", ""), serial) if vendor == "NVIDIA" and serial else None
    return None
