"""What verification can answer besides a verdict.

AttestationError
├── MalformedEvidence       bytes that are not what they claim to be
├── CollateralUnavailable   something to verify with could not be had
├── PolicyError             a policy that cannot be used
└── Rejected                evidence that was read and judged, and did not pass
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .verdict import Verdict


class AttestationError(Exception):
    """Base of every error that this package raises on purpose."""


class MalformedEvidence(AttestationError):
    """Bytes that do not parse as the format they claim; nothing was judged."""


class CollateralUnavailable(AttestationError):
    """Certificates, CRLs, TCB info or manifests that are missing or could not be fetched."""


class PolicyError(AttestationError):
    """A policy that does not validate; the message names the key and the remedy."""


class Rejected(AttestationError):
    """Evidence that was judged and not accepted. `verdict` holds every check."""

    def __init__(self, verdict: "Verdict") -> None:
        super().__init__(verdict.summary())
        self.verdict = verdict
