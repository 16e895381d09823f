"""Hands out evidence: one gathering at a time, a bounded queue behind it, nothing cached."""

import asyncio
import re
from collections.abc import Callable
from typing import Protocol
from urllib.parse import parse_qs

from attestation import Bundle, MalformedEvidence
from attestation.binding import NONCE_SIZE
from attestation.encoding import b64url_decode, strict_json
from attestation.evidence import MEDIA_TYPE
from enclave.tee.interface import EvidenceUnavailable

from .metrics import Metrics
from .plain import BodyTooLarge, ClientGone, Receive, Scope, Send, answer, problem, read_body

MAX_WAITING = 32
MAX_BODY = 1024
Gather = Callable[[bytes, bool], Bundle]
"""(nonce of 32 bytes, whether to include a one-time key) -> bundle; runs in a thread."""


class Journal(Protocol):
    """The worker's hourly evidence about itself (enclave/receipts/journal.py)."""

    def find(self, period: int, keyset: bytes | None, workload: bytes | None) -> bytes | None:
        """The bundle kept for the hour that begins at `period`, for that K and W where they are given."""


class BadNonce(ValueError):
    """A request for evidence without a usable nonce."""


class EvidenceDesk:
    """Answers /attestation. The nonce is all that a caller chooses of what the hardware signs."""

    def __init__(self, gather: Gather, metrics: Metrics, journal: Journal | None = None) -> None:
        self._gather = gather
        self._metrics = metrics
        self._journal = journal
        self._one = asyncio.Lock()
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET ?nonce=, or POST {"nonce", "session"}; 400, 503 with Retry-After, or the bundle.

        GET ?period= gives the worker's own evidence of an hour instead, or 404.
        """
        try:
            if period := _period(scope):
                await self._past(*period, send)
                return
            nonce, session = await _wanted(scope, receive)
        except (BadNonce, MalformedEvidence, BodyTooLarge) as error:
            await problem(send, 400, "bad request for evidence", f"{error}; nonce is 32 bytes in base64url")
            return
        except ClientGone:
            return
        if self._waiting >= MAX_WAITING:
            self._metrics.evidence("busy")
            await problem(send, 503, "too many wait for evidence", headers=[(b"retry-after", b"2")])
            return
        await self._serve(nonce, session, send)

    async def _past(self, period: int, keyset: bytes | None, workload: bytes | None, send: Send) -> None:
        found = self._journal.find(period, keyset, workload) if self._journal else None
        if found is None:
            detail = "kept for hours in which receipts were signed, while the worker runs"
            await problem(send, 404, "no evidence of that hour", detail)
            return
        await answer(send, 200, found, MEDIA_TYPE)

    async def _serve(self, nonce: bytes, session: bool, send: Send) -> None:
        self._waiting += 1
        try:
            async with self._one:
                bundle = await asyncio.to_thread(self._gather, nonce, session)
        except EvidenceUnavailable as error:
            self._metrics.evidence("unavailable")
            await problem(send, 503, "no evidence", str(error), headers=[(b"retry-after", b"5")])
        else:
            self._metrics.evidence("given")
            await answer(send, 200, bundle.to_json(), MEDIA_TYPE)
        finally:
            self._waiting -= 1


def _period(scope: Scope) -> tuple[int, bytes | None, bytes | None] | None:
    """The hour, K and W of a request for evidence about the past. Raises BadNonce, MalformedEvidence."""
    if scope["method"] != "GET":
        return None
    query = {k: v[0] for k, v in parse_qs(scope["query_string"].decode("latin-1")).items()}
    if "period" not in query:
        return None
    if not re.fullmatch("0|[1-9][0-9]{0,11}", query["period"]):
        raise BadNonce("period is not a time in Unix seconds")
    keyset, workload = (b64url_decode(query[n]) if n in query else None for n in ("keyset", "workload"))
    return int(query["period"]), keyset, workload


async def _wanted(scope: Scope, receive: Receive) -> tuple[bytes, bool]:
    if scope["method"] == "POST":
        table = strict_json(await read_body(receive, MAX_BODY), limit=MAX_BODY)
        if not isinstance(table, dict) or not table.keys() <= {"nonce", "session"}:
            raise BadNonce('expected {"nonce": ..., "session": true}')
        nonce, session = table.get("nonce"), table.get("session", False)
    else:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        nonce, session = query.get("nonce", [None])[0], False
    if not isinstance(nonce, str) or not isinstance(session, bool):
        raise BadNonce("no nonce")
    raw = b64url_decode(nonce)
    if len(raw) != NONCE_SIZE:
        raise BadNonce(f"the nonce has {len(raw)} bytes")
    return raw, session
