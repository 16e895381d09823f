"""The structures of RFC 5280 that chains are made of, declared; `cryptography` decodes them, strictly as DER.

What is signed, compared or handed on is kept as it was encoded.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec

from .errors import MalformedEvidence

if TYPE_CHECKING:
    from cryptography.x509 import ObjectIdentifier as ObjectIdentifier
else:  # importing x509 takes as long as importing all else that judges a report
    ObjectIdentifier = type(ec.EllipticCurveOID.SECP384R1)

SEQUENCE = b"\x30"
T = TypeVar("T")
Time = asn1.UTCTime | asn1.GeneralizedTime


@asn1.sequence
class Signed:
    """Certificate and CertificateList: what is signed, by which algorithm, and the signature."""

    body: asn1.TLV
    algorithm: asn1.TLV
    signature: asn1.BitString


@asn1.sequence
class Extension:
    """One extension; `critical` is None where the flag is left out."""

    name: ObjectIdentifier
    critical: bool | None
    value: bytes


@asn1.sequence
class Validity:
    """notBefore and notAfter."""

    not_before: Time
    not_after: Time


@asn1.sequence
class TbsCertificate:
    """TBSCertificate without the unique identifiers, which nobody uses."""

    version: Annotated[int, asn1.Explicit(0)]
    serial: int
    algorithm: asn1.TLV
    issuer: asn1.TLV
    validity: Validity
    subject: asn1.TLV
    spki: asn1.TLV
    extensions: Annotated[list[Extension] | None, asn1.Explicit(3)]


@asn1.sequence
class Revoked:
    """One entry of a CRL."""

    serial: int
    date: Time
    extensions: list[Extension] | None


@asn1.sequence
class TbsCertList:
    """TBSCertList of version 2 with a nextUpdate."""

    version: int
    algorithm: asn1.TLV
    issuer: asn1.TLV
    this_update: Time
    next_update: Time
    revoked: list[Revoked] | None
    extensions: Annotated[list[Extension] | None, asn1.Explicit(0)]


def decode(kind: type[T], raw: bytes) -> T:
    """The `kind` that fills `raw`; MalformedEvidence otherwise."""
    try:
        return asn1.decode_der(kind, raw)
    except ValueError as error:
        raise MalformedEvidence(f"not DER as expected: {error}") from None


def encoded(element: asn1.TLV) -> bytes:
    """A SEQUENCE as it was encoded; MalformedEvidence for anything else."""
    if element.tag_bytes != SEQUENCE:
        raise MalformedEvidence(f"identifier {element.tag_bytes.hex()} where a SEQUENCE belongs")
    return asn1.encode_der(element)


def octets(value: asn1.BitString) -> bytes:
    """The value of a BIT STRING of whole octets."""
    if value.padding_bits():
        raise MalformedEvidence("a BIT STRING is not of whole octets")
    return value.as_bytes()


def instant(value: Any) -> datetime:
    """A time in UTC; RFC 5280 has no fractions of seconds."""
    found: datetime = value.as_datetime()
    if found.microsecond:
        raise MalformedEvidence("a time with fractions of a second")
    return found.replace(tzinfo=UTC)
