"""The only part of attestation that uses the network: collateral from AMD, Intel and NVIDIA.

What is needed follows from the evidence; where it is asked follows from `Services` alone. Nothing
fetched is trusted: it is read for form, and `verify` judges it.
"""

from .evidence import Evidence, recognise
from .gather import Answer, Fetched, fetch, recall
from .plan import Plan, plan
from .request import Reply, Request
from .services import OFFICIAL, Service, Services
from .transport import Patience, Transport

__all__ = [
    "OFFICIAL",
    "Answer",
    "Evidence",
    "Fetched",
    "Patience",
    "Plan",
    "Reply",
    "Request",
    "Service",
    "Services",
    "Transport",
    "fetch",
    "plan",
    "recall",
    "recognise",
]
