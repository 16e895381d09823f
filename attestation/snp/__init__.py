"""AMD SEV-SNP: attestation reports of versions 2 to 5, VCEK and VLEK, Milan, Genoa and Turin."""

from typing import TYPE_CHECKING

from ..lazily import lazily

if TYPE_CHECKING:
    from .appraisal import appraise
    from .checks import SnpCheck
    from .endorsement import EndorsementKey
    from .flags import GuestFlag, GuestPolicy, PlatformInfo, SignerInfo, SigningKey
    from .policy import SnpPolicy
    from .product import Cpuid, FirmwareVersion, Product, Tcb
    from .report import REPORT_SIZE, SnpReport
    from .table import read_table

__all__ = [
    "REPORT_SIZE",
    "Cpuid",
    "EndorsementKey",
    "FirmwareVersion",
    "GuestFlag",
    "GuestPolicy",
    "PlatformInfo",
    "Product",
    "SignerInfo",
    "SigningKey",
    "SnpCheck",
    "SnpPolicy",
    "SnpReport",
    "Tcb",
    "appraise",
    "read_table",
]

__getattr__ = lazily(
    __name__,
    {
        ".appraisal": "appraise",
        ".checks": "SnpCheck",
        ".endorsement": "EndorsementKey",
        ".flags": "GuestFlag GuestPolicy PlatformInfo SignerInfo SigningKey",
        ".policy": "SnpPolicy",
        ".product": "Cpuid FirmwareVersion Product Tcb",
        ".report": "REPORT_SIZE SnpReport",
        ".table": "read_table",
    },
)
