"""`verify`: a pure function of (evidence, collateral, policy, nonce, now)."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from .checks import EvidenceCheck as Check
from .collateral import Collateral
from .context import Context
from .expected import Expected
from .freshness import check_age
from .policy import Policy
from .sources import Evidence
from .standalone import FORMS, MORE_THAN_HARDWARE, Form
from .verdict import Sheet, Verdict


def verify(
    evidence: Evidence,
    collateral: Collateral,
    policy: Policy,
    *,
    nonce: bytes | None,
    now: datetime,
    nonce_age: timedelta | None = None,
    report_data: bytes | None = None,
    user_data: bytes | None = None,
    public_key: bytes | None = None,
    runtime: Mapping[str, Any] | None = None,
) -> Verdict:
    """The verdict on `evidence` under `policy`; every check that could be made was made.

    `nonce`: the verifier's own (32 bytes for a bundle); None makes that check unevaluable.
    `nonce_age`: the time from making the nonce to having the evidence; a bundle needs it.
    `report_data`, `user_data`, `public_key`, `runtime`: what evidence of other kinds must carry; a
    value that this kind has no place for fails. `now` is timezone-aware. Raises MalformedEvidence
    for bytes that do not parse; never touches clock, network or file.

    1. the policy has a section for this kind, and the evidence can carry what is asked of it;
    2. each part is judged (`bundles` for ours, `standalone` and the TEEs' packages for others);
    3. the verdict holds until the first of the policy's age, the keyset's end, the token's end.
    """
    if now.tzinfo is None:
        raise ValueError("now has no time zone")
    expected = Expected(
        nonce=nonce,
        nonce_age=nonce_age,
        report_data=report_data,
        user_data=user_data,
        public_key=public_key,
        runtime=runtime,
    )
    context = Context(policy=policy, collateral=collateral, now=now)
    sheets, ends = _appraise(evidence, context, expected)  # 1, 2
    return Verdict.of(
        sheets,
        at=now,
        simulated=policy.roots.simulated,
        custom_roots=policy.roots.custom,
        expires_at=min(now + policy.max_verdict_age, ends, *_token_ends(sheets)),  # 3
    )


def _appraise(evidence: Evidence, context: Context, expected: Expected) -> tuple[list[Sheet], datetime]:
    form = FORMS.get(type(evidence))
    if form is None:
        return _appraise_bundle(evidence, context, expected)
    latest = context.now + context.policy.max_verdict_age
    sheet = Sheet("evidence", {Check.POLICY})
    if not _check_policy(sheet, form, evidence, context.policy):
        return [sheet], latest
    if expected.given:
        _record_inputs(sheet, expected.given, form.carries)
    if expected.nonce_age is not None:
        check_age(sheet, Check.FRESHNESS, context.policy, expected.nonce_age)
    return [sheet, *form.appraise(evidence, context, expected)], latest


def _appraise_bundle(evidence: Any, context: Context, expected: Expected) -> tuple[list[Sheet], datetime]:
    from .bundles import appraise_bundle  # whoever judges a single report does without
    from .evidence import Bundle
    from .kbs import KbsEvidence, appraise_kbs

    if isinstance(evidence, KbsEvidence):
        sheets, ends = appraise_kbs(evidence, context, expected)
        return [*sheets, *_strange(expected)], ends
    if not isinstance(evidence, Bundle):
        raise TypeError(f"{type(evidence).__name__} is no evidence")
    collateral = context.collateral.merged(evidence.collateral.stapled())
    sheets, ends = appraise_bundle(evidence, replace(context, collateral=collateral), expected)
    return [*sheets, *_strange(expected)], ends


def _check_policy(sheet: Sheet, form: Form, evidence: Evidence, policy: Policy) -> bool:
    needed = form.sections(evidence)
    asked = MORE_THAN_HARDWARE.get(needed[0], ()) if len(needed) == 1 else ()
    if more := [f"[{name}]" for name in asked if getattr(policy, name)]:
        found = f"{form.name} by itself"
        return sheet.record(Check.POLICY, False, found, f"the evidence that {' or '.join(more)} judges")
    missing = [name for name in needed if not any(getattr(policy, n, None) for n in name.split("|"))]
    found = f"no [{'], ['.join(missing)}]" if missing else f"{form.name}"
    wanted = " and ".join(f"[{name.replace('|', '] or [')}]" for name in needed)
    return sheet.record(Check.POLICY, not missing, found, wanted)


def _strange(expected: Expected) -> list[Sheet]:
    """A failing sheet, where more was asked for than a nonce, which bundles judge themselves."""
    if expected.given <= {"nonce"}:
        return []
    sheet = Sheet("evidence", {Check.INPUTS})
    _record_inputs(sheet, expected.given, frozenset({"nonce"}))
    return [sheet]


def _record_inputs(sheet: Sheet, given: Set[str], carried: Set[str]) -> None:
    strange = given - carried
    found = ", ".join(sorted(strange or given)).replace("_", " ")
    sheet.record(Check.INPUTS, not strange, f"asked for: {found}", "only what this kind of evidence carries")


def _token_ends(sheets: Iterable[Sheet]) -> list[datetime]:
    """When the tokens among the evidence expire, as far as they say so in a usable way."""
    found: list[datetime] = []
    for sheet in sheets:
        seconds = sheet.claims.get("exp")
        if isinstance(seconds, int | float) and not isinstance(seconds, bool):
            try:
                found.append(datetime.fromtimestamp(seconds, UTC))
            except (OverflowError, ValueError, OSError):
                continue
    return found
