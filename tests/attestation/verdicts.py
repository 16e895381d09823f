"""Verdicts to speak about: whole enumerations of checks, passed but for the named ones."""

from datetime import UTC, datetime, timedelta
from typing import Any

from attestation import Verdict
from attestation.checks import BundleCheck, CheckId
from attestation.nvidia.checks import NvidiaCheck
from attestation.snp.checks import SnpCheck
from attestation.verdict import Sheet

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def sheet(subject: str, checks: type[CheckId], **outcomes: bool | None) -> Sheet:
    """A sheet that requires every check of `checks`; all pass but those in `outcomes` (None: unevaluable)."""
    made = Sheet(subject, checks)
    made.claims |= {"measurement": "00"}
    for check in checks:
        passed = outcomes.get(check.name, True)
        if passed is None:
            made.unevaluable(check, "nothing to judge by")
        else:
            made.record(check, passed, "found", "expected")
    return made


def verdict(
    *, cpu: dict[str, Any] | None = None, bundle: dict[str, Any] | None = None, **fields: Any
) -> Verdict:
    sheets = [
        sheet("bundle", BundleCheck, **bundle or {}),
        sheet("cpu0", SnpCheck, **cpu or {}),
        sheet("gpu0", NvidiaCheck),
    ]
    return Verdict.of(sheets, at=NOW, **{"expires_at": NOW + timedelta(minutes=30)} | fields)
