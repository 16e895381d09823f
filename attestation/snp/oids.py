"""Object identifiers of the extensions in AMD's VCEK and VLEK certificates.

AMD, "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification" (57230),
tables 8 and 9. DER values: INTEGER for versions and levels, IA5String for names; the chip's
identity stands bare, or in an OCTET STRING.
"""

from ..der import encoded_oid

_AMD = "1.3.6.1.4.1.3704.1"

STRUCT_VERSION = encoded_oid(f"{_AMD}.1")
PRODUCT_NAME = encoded_oid(f"{_AMD}.2")
BL_SPL = encoded_oid(f"{_AMD}.3.1")
TEE_SPL = encoded_oid(f"{_AMD}.3.2")
SNP_SPL = encoded_oid(f"{_AMD}.3.3")
SPL_4 = encoded_oid(f"{_AMD}.3.4")
SPL_5 = encoded_oid(f"{_AMD}.3.5")
SPL_6 = encoded_oid(f"{_AMD}.3.6")
SPL_7 = encoded_oid(f"{_AMD}.3.7")
UCODE_SPL = encoded_oid(f"{_AMD}.3.8")
FMC_SPL = encoded_oid(f"{_AMD}.3.9")
HW_ID = encoded_oid(f"{_AMD}.4")
CSP_ID = encoded_oid(f"{_AMD}.5")

RESERVED_SPLS = (SPL_4, SPL_5, SPL_6, SPL_7)
