"""The outside of a worker: five paths, and a refusal for everything else."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from sealing.ohttp import MEDIA_TYPE_KEYS

from .desk import EvidenceDesk
from .metrics import MEDIA_TYPE, Metrics
from .oblivious import ObliviousHandler
from .plain import Receive, Scope, Send, answer, problem

SEALED_ONLY = (
    "this worker answers the API only inside POST /ohttp, sealed to an attested key; use the cloister client"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The ASGI application that a worker exposes. `key_configs` gives the current application/ohttp-keys."""

    oblivious: ObliviousHandler
    desk: EvidenceDesk
    metrics: Metrics
    key_configs: Callable[[], bytes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Route by path and method. Nothing of a refused request is read."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")  # uvicorn closes the connection
        route = (scope["method"], scope["path"])
        match route:
            case ("POST", "/ohttp"):
                await self.oblivious(scope, receive, send)
            case ("GET" | "POST", "/attestation"):
                await self.desk(scope, receive, send)
            case ("GET", "/healthz"):
                await answer(send, 200, json.dumps({"status": "ok"}).encode(), "application/json")
            case ("GET", "/.well-known/ohttp-gateway"):
                await answer(send, 200, self.key_configs(), MEDIA_TYPE_KEYS)
            case ("GET", "/metrics"):
                await answer(send, 200, self.metrics.render(), MEDIA_TYPE)
            case (_, "/ohttp" | "/attestation" | "/healthz" | "/.well-known/ohttp-gateway" | "/metrics"):
                await problem(send, 405, "method not allowed")
            case _:
                await problem(send, 404, "nothing in plaintext here", SEALED_ONLY)
