"""What a certificate may be used for: basic constraints and key usage (RFC 5280, 4.2.1.3 and 4.2.1.9)."""

from collections.abc import Mapping

from cryptography.hazmat import asn1

from . import der, pkix
from .pkix import ObjectIdentifier

KEY_USAGE = ObjectIdentifier("2.5.29.15")
BASIC_CONSTRAINTS = ObjectIdentifier("2.5.29.19")
Extensions = Mapping[ObjectIdentifier, pkix.Extension]

# The first octet of a KeyUsage. Plain numbers: an IntFlag costs as much as reading the certificate.
SIGNS_DATA = 0x80
SIGNS_CERTIFICATES = 0x04
SIGNS_CRLS = 0x02


@asn1.sequence
class Constraints:
    """BasicConstraints; a flag that is left out is false."""

    authority: bool | None
    path_length: int | None


NO_AUTHORITY = Constraints(authority=False, path_length=None)


def constraints(extensions: Extensions) -> Constraints:
    """The basic constraints; without the extension, those of no authority."""
    found = extensions.get(BASIC_CONSTRAINTS)
    return NO_AUTHORITY if found is None else pkix.decode(Constraints, found.value)


def key_usage(extensions: Extensions) -> int | None:
    """The bits that are set; None without the extension."""
    found = extensions.get(KEY_USAGE)
    if found is None:
        return None
    content = der.only(found.value, der.BIT_STRING).content
    return content[1] if len(content) > 1 else 0
