"""What is true of a worker: evidence formats, chains, checks, policy, roots, verdict.

`verify` is pure: no clock, network or file. Names below are the public ones.
"""

from typing import TYPE_CHECKING

from .lazily import lazily

if TYPE_CHECKING:
    from .checks import CheckId
    from .collateral import Collateral, Kind
    from .errors import AttestationError, CollateralUnavailable, MalformedEvidence, PolicyError, Rejected
    from .evidence import Bundle, CpuEvidence, DeviceEvidence
    from .keyset import Keyset, LoadedModel, OhttpKey, Session, Workload
    from .policy import Policy, WorkloadPolicy
    from .recognition import Recognised, recognise
    from .roots import Roots
    from .sources import (
        AciEvidence,
        AzureVtpm,
        DstackDocument,
        Evidence,
        GpuEvidence,
        MaaEvidence,
        NitroEvidence,
        NrasEvidence,
        RimEvidence,
        SgxEvidence,
        SnpEvidence,
        TdxEvidence,
        TinfoilDocument,
        TpmQuotes,
    )
    from .verdict import ExitCode, Outcome, Result, Verdict
    from .verification import verify

__all__ = [
    "AciEvidence",
    "AttestationError",
    "AzureVtpm",
    "Bundle",
    "CheckId",
    "Collateral",
    "CollateralUnavailable",
    "CpuEvidence",
    "DeviceEvidence",
    "DstackDocument",
    "Evidence",
    "ExitCode",
    "GpuEvidence",
    "Keyset",
    "Kind",
    "LoadedModel",
    "MaaEvidence",
    "MalformedEvidence",
    "NitroEvidence",
    "NrasEvidence",
    "OhttpKey",
    "Outcome",
    "Policy",
    "PolicyError",
    "Recognised",
    "Rejected",
    "Result",
    "RimEvidence",
    "Roots",
    "Session",
    "SgxEvidence",
    "SnpEvidence",
    "TdxEvidence",
    "TinfoilDocument",
    "TpmQuotes",
    "Verdict",
    "Workload",
    "WorkloadPolicy",
    "recognise",
    "verify",
]

__getattr__ = lazily(
    __name__,
    {
        ".checks": "CheckId",
        ".collateral": "Collateral Kind",
        ".errors": "AttestationError CollateralUnavailable MalformedEvidence PolicyError Rejected",
        ".evidence": "Bundle CpuEvidence DeviceEvidence",
        ".keyset": "Keyset LoadedModel OhttpKey Session Workload",
        ".policy": "Policy WorkloadPolicy",
        ".recognition": "Recognised recognise",
        ".roots": "Roots",
        ".sources": (
            "AciEvidence AzureVtpm DstackDocument Evidence GpuEvidence MaaEvidence NitroEvidence "
            "NrasEvidence RimEvidence SgxEvidence SnpEvidence TdxEvidence TinfoilDocument TpmQuotes"
        ),
        ".verdict": "ExitCode Outcome Result Verdict",
        ".verification": "verify",
    },
)
