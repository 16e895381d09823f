"""An attestation judged under an owner's policy, and what the log and the count need of the verdict."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from attestation import Collateral, MalformedEvidence, Outcome, Policy, Verdict, verify
from attestation.kbs import KbsEvidence, workload_of
from sealing.kbs import Attestation

from .sessions import Session
from .store import Asking

MAX_REASONS = 32


def evidence_of(session: Session, attestation: Attestation) -> KbsEvidence:
    """The evidence in an attestation, for `attestation.verify`."""
    return KbsEvidence(
        tee=session.tee,
        runtime=attestation.runtime_data.to_json(),
        primary=attestation.tee_evidence.primary,
        additional=attestation.tee_evidence.additional,
    )


def appraise(
    session: Session, attestation: Attestation, policy: Policy, collateral: Collateral, now: float
) -> Verdict:
    """The verdict on what a session was answered with. Raises MalformedEvidence."""
    stapled = Collateral.from_json(dict(attestation.stapled)) if attestation.stapled else Collateral()
    return verify(
        evidence_of(session, attestation),
        collateral.merged(stapled.stapled()),
        policy,
        nonce=session.nonce.encode("ascii"),
        now=datetime.fromtimestamp(now, UTC),
        nonce_age=session.answered_after,
    )


def holds(verdict: Verdict, now: float) -> bool:
    """Whether a verdict of this session can still be relied on: policy's age, keyset's end."""
    return verdict.expires_at is not None and now < verdict.expires_at.timestamp()


def asking(session: Session, verdict: Verdict) -> Asking:
    """Who asks, for the decision."""
    runtime = session.attestation.runtime_data.to_json() if session.attestation else {}
    return Asking(
        session=session.digest,
        simulated=verdict.simulated,
        workload=workload_of(runtime),
        rejected=() if verdict.accepted else (verdict.word.lower(), *reasons(verdict)),
    )


def nobody(session: Session, why: str) -> Asking:
    """Who asks, where there is nothing to judge the evidence by."""
    return replace(Asking(session=session.digest, simulated=True, workload=None), rejected=(why,))


def reasons(verdict: Verdict) -> tuple[str, ...]:
    """The checks that did not pass, with what was found and expected: for the owner alone."""
    failed = [
        r
        for r in verdict.results
        if r.outcome is not Outcome.PASS and (verdict.requires(r) or r.outcome is Outcome.FAIL)
    ]
    return tuple(
        f"{r.subject} {r.check}: {r.outcome}; {r.found}; expected {r.expected}" for r in failed[:MAX_REASONS]
    )


def summary(verdicts: Mapping[str, Verdict | MalformedEvidence]) -> dict[str, object]:
    """What the log says of an attestation, by policy."""
    return {
        name: {"verdict": found.word, "reasons": list(reasons(found))}
        if isinstance(found, Verdict)
        else {"verdict": "MALFORMED", "reasons": [str(found)]}
        for name, found in verdicts.items()
    }
