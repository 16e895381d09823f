"""What is true of a worker: evidence formats, chains, checks, policy, roots, verdict.

`verify` is pure: no clock, network or file. Names below are the public ones.
"""

from .checks import CheckId
from .collateral import Collateral, Kind
from .errors import AttestationError, CollateralUnavailable, MalformedEvidence, PolicyError, Rejected
from .evidence import Bundle, CpuEvidence, DeviceEvidence
from .keyset import Keyset, LoadedModel, OhttpKey, Session, Workload
from .policy import Policy, WorkloadPolicy
from .roots import Roots
from .verdict import ExitCode, Outcome, Result, Verdict
from .verify import verify

__all__ = [
    "AttestationError",
    "Bundle",
    "CheckId",
    "Collateral",
    "CollateralUnavailable",
    "CpuEvidence",
    "DeviceEvidence",
    "ExitCode",
    "Keyset",
    "Kind",
    "LoadedModel",
    "MalformedEvidence",
    "OhttpKey",
    "Outcome",
    "Policy",
    "PolicyError",
    "Rejected",
    "Result",
    "Roots",
    "Session",
    "Verdict",
    "Workload",
    "WorkloadPolicy",
    "verify",
]
