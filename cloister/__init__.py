"""Cloister: confidential inference. Attest a worker, CPU and GPU together; only then seal to it.

    import cloister

    policy = cloister.Policy.from_file("policy.toml")
    with cloister.Client("http://127.0.0.1:8420", policy) as worker:
        print(worker.attest().word)
        for piece in worker.stream("What does attestation prove?"):
            print(piece, end="")

Verification alone needs no network: `verify(bundle, collateral, policy, nonce=..., now=...)`.
OpenAI's own client works over the channel: see `cloister.http_client`.
"""

from typing import TYPE_CHECKING, Any

from attestation import (
    AttestationError,
    Bundle,
    CheckId,
    Collateral,
    CollateralUnavailable,
    MalformedEvidence,
    Outcome,
    Policy,
    PolicyError,
    Rejected,
    Result,
    Roots,
    Verdict,
    verify,
)
from client.blocking import Client
from client.errors import (
    ApiFailure,
    BrokenAnswer,
    ClientError,
    InsecureAddress,
    NotAnAddress,
    NoUsableKey,
    ReceiptRefused,
    ShapeMismatch,
    Unreachable,
    WorkerBusy,
    WorkerRefused,
)
from client.receipts import Proof
from client.sdk import Answer, AsyncClient

if TYPE_CHECKING:
    from client.openai import async_http_client, http_client

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "ApiFailure",
    "AsyncClient",
    "AttestationError",
    "BrokenAnswer",
    "Bundle",
    "CheckId",
    "Client",
    "ClientError",
    "Collateral",
    "CollateralUnavailable",
    "InsecureAddress",
    "MalformedEvidence",
    "NoUsableKey",
    "NotAnAddress",
    "Outcome",
    "Policy",
    "PolicyError",
    "Proof",
    "ReceiptRefused",
    "Rejected",
    "Result",
    "Roots",
    "ShapeMismatch",
    "Unreachable",
    "Verdict",
    "WorkerBusy",
    "WorkerRefused",
    "__version__",
    "async_http_client",
    "http_client",
    "verify",
]


def __getattr__(name: str) -> Any:
    # httpx2 comes with the extra [openai]; whoever does without it does not pay for importing it.
    if name in ("http_client", "async_http_client"):
        from client import openai

        return getattr(openai, name)
    raise AttributeError(f"module 'cloister' has no attribute {name!r}")
