"""The worker's side of SPDM: connect, judge the device, and have it sign evidence for clients."""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

from attestation import Collateral, DeviceEvidence, GpuEvidence, MalformedEvidence, Policy, Verdict, verify
from enclave.gpu.bus import LinkError
from enclave.gpu.spdm import (
    SPDM_11,
    DeviceRefused,
    Evidence,
    Judge,
    Mctp,
    Requester,
    Session,
    SpdmError,
    transact,
)
from enclave.tee.interface import EvidenceUnavailable

TEE: Final = "nvidia-gpu"
Exchange = Callable[[bytes], bytes]
"""Sends one SPDM packet to the device and returns its answer."""


def attest(exchange: Exchange, judge: Judge) -> Session:
    """A verified session with the device at the other end, in 1.1: its measurements are NVIDIA's evidence.

    Raises SpdmError (DeviceRefused with the judge's reason), and what `exchange` raises.
    """
    requester = Requester(Mctp(), versions=[SPDM_11])
    transact(requester.connect(), exchange)
    transact(requester.get_digests(), exchange)
    transact(requester.get_certificate(), exchange)
    unverified = transact(requester.establish(), exchange)
    return transact(unverified.verify(judge), exchange)


def judge_by(policy: Policy, collateral: Callable[[], Collateral], clock: Callable[[], datetime]) -> Judge:
    """A judge that accepts what the [nvidia_gpu] section of a policy accepts, checked as clients check it."""

    def judge(evidence: Evidence) -> bool:
        device = DeviceEvidence(tee=TEE, report=evidence.report, chain=evidence.chain.pem)
        try:
            verdict = verify(
                GpuEvidence(devices=(device,)), collateral(), policy, nonce=evidence.nonce, now=clock()
            )
        except MalformedEvidence as error:
            raise DeviceRefused(f"the device's evidence is malformed: {error}") from None
        if not verdict.accepted:
            raise DeviceRefused(f"the device was refused: {_failures(verdict)}")
        return True

    return judge


class AttestedGpu:
    """A device behind a verified session. Implements `tee.Device`. Safe to use from several threads."""

    tee = TEE

    def __init__(self, session: Session, exchange: Exchange) -> None:
        self._session = session
        self._exchange = exchange
        self._lock = threading.Lock()

    @property
    def session(self) -> Session:
        """The SPDM session."""
        return self._session

    def report(self, nonce: bytes) -> DeviceEvidence:
        """Measurements signed in the session by the leaf that signed its key exchange."""
        try:
            with self._lock:
                evidence = transact(self._session.evidence(nonce), self._exchange)
        except (SpdmError, LinkError) as error:
            raise EvidenceUnavailable(f"the GPU gives no evidence: {error}") from None
        return DeviceEvidence(tee=self.tee, report=evidence.report, chain=evidence.chain.pem)

    def heartbeat(self) -> None:
        """Show the device that we are there. Raises SpdmError, LinkError."""
        with self._lock:
            transact(self._session.heartbeat(), self._exchange)


def unjudged(respond: Exchange) -> AttestedGpu:
    """A device that answers by a call and that nobody judges: for demonstrations, tests and benchmarks."""
    return AttestedGpu(attest(respond, lambda evidence: True), respond)


def _failures(verdict: Verdict) -> str:
    wrong = [f"{each.check} ({each.found})" for each in verdict.results if each.outcome != "pass"]
    return "; ".join(wrong) or "no check passed"
