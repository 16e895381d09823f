"""Object identifiers of the extensions in AMD's VCEK and VLEK certificates.

AMD, "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification" (57230),
tables 8 and 9. DER values: INTEGER for versions and levels, IA5String for names; the chip's
identity stands bare, or in an OCTET STRING.
"""

from ..pkix import ObjectIdentifier

_AMD = "1.3.6.1.4.1.3704.1"

STRUCT_VERSION = ObjectIdentifier(f"{_AMD}.1")
PRODUCT_NAME = ObjectIdentifier(f"{_AMD}.2")
BL_SPL = ObjectIdentifier(f"{_AMD}.3.1")
TEE_SPL = ObjectIdentifier(f"{_AMD}.3.2")
SNP_SPL = ObjectIdentifier(f"{_AMD}.3.3")
SPL_4 = ObjectIdentifier(f"{_AMD}.3.4")
SPL_5 = ObjectIdentifier(f"{_AMD}.3.5")
SPL_6 = ObjectIdentifier(f"{_AMD}.3.6")
SPL_7 = ObjectIdentifier(f"{_AMD}.3.7")
UCODE_SPL = ObjectIdentifier(f"{_AMD}.3.8")
FMC_SPL = ObjectIdentifier(f"{_AMD}.3.9")
HW_ID = ObjectIdentifier(f"{_AMD}.4")
CSP_ID = ObjectIdentifier(f"{_AMD}.5")

RESERVED_SPLS = (SPL_4, SPL_5, SPL_6, SPL_7)
