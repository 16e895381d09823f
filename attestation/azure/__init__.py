"""Azure: confidential virtual machines with a vTPM (SEV-SNP and TDX), and container instances."""

from typing import TYPE_CHECKING

from ..lazily import lazily

if TYPE_CHECKING:
    from .aci import appraise_aci
    from .checks import AciCheck, AzureCheck
    from .did import DidX509
    from .hcl import HclReport, ReportType
    from .policy import AciPolicy, VtpmPolicy
    from .uvm import UvmEndorsement
    from .vtpm import VtpmEvidence, appraise_snp, appraise_tdx

__all__ = [
    "AciCheck",
    "AciPolicy",
    "AzureCheck",
    "DidX509",
    "HclReport",
    "ReportType",
    "UvmEndorsement",
    "VtpmEvidence",
    "VtpmPolicy",
    "appraise_aci",
    "appraise_snp",
    "appraise_tdx",
]

__getattr__ = lazily(
    __name__,
    {
        ".aci": "appraise_aci",
        ".checks": "AciCheck AzureCheck",
        ".did": "DidX509",
        ".hcl": "HclReport ReportType",
        ".policy": "AciPolicy VtpmPolicy",
        ".uvm": "UvmEndorsement",
        ".vtpm": "VtpmEvidence appraise_snp appraise_tdx",
    },
)
