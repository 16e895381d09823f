"""TPM 2.0: quotes, attestation keys and their certificates, registers, event logs."""

from typing import TYPE_CHECKING

from ..lazily import lazily

if TYPE_CHECKING:
    from .appraisal import TpmEvidence, appraise
    from .checks import TpmCheck
    from .eventlog import Event, EventLog
    from .policy import PcrRules, TpmPolicy
    from .public import Public, Signature
    from .quote import PcrSelection, Quote
    from .quoted import SignedQuote

__all__ = [
    "Event",
    "EventLog",
    "PcrRules",
    "PcrSelection",
    "Public",
    "Quote",
    "Signature",
    "SignedQuote",
    "TpmCheck",
    "TpmEvidence",
    "TpmPolicy",
    "appraise",
]

__getattr__ = lazily(
    __name__,
    {
        ".appraisal": "TpmEvidence appraise",
        ".checks": "TpmCheck",
        ".eventlog": "Event EventLog",
        ".policy": "PcrRules TpmPolicy",
        ".public": "Public Signature",
        ".quote": "PcrSelection Quote",
        ".quoted": "SignedQuote",
    },
)
