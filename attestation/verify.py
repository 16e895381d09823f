"""`verify`: a pure function of (evidence, collateral, policy, nonce, now)."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from . import nvidia, snp
from .binding import gpu_nonce, report_data
from .checks import BundleCheck as Check
from .checks import CheckId
from .collateral import Collateral
from .context import Context
from .evidence import Bundle
from .keyset import MAX_LIFETIME, Keyset, LoadedModel, Session, Workload
from .policy import Policy, WorkloadPolicy
from .verdict import Sheet, Verdict

SESSION_WINDOW = 120  # a key lives 60 s; the rest is for clocks that differ
REQUIRED = frozenset(Check) - {Check.SESSION_VALIDITY}


def verify(
    evidence: Bundle,
    collateral: Collateral,
    policy: Policy,
    *,
    nonce: bytes | None,
    now: datetime,
    nonce_age: timedelta | None = None,
) -> Verdict:
    """The verdict on `evidence` under `policy`; every check that could be made was made.

    `nonce`: the verifier's own 32 bytes; None makes the nonce check unevaluable. `nonce_age`: the
    time from making the nonce to having the evidence; None makes freshness unevaluable. `now` is
    timezone-aware. Raises MalformedEvidence for bytes that do not parse; never touches clock,
    network or file.

    1. nonce and freshness;  2. keyset, session and workload are what the policy allows;
    3. each device report is genuine and signs this nonce and these keys;
    4. the CPU report is genuine and its REPORT_DATA commits to 1-3.
    """
    if now.tzinfo is None:
        raise ValueError("now has no time zone")
    keyset = Keyset.from_bytes(evidence.keyset)
    session = Session.from_bytes(evidence.session) if evidence.session is not None else None
    workload = Workload.from_bytes(evidence.workload)
    context = Context(policy=policy, collateral=collateral.merged(evidence.collateral), now=now)

    sheet = Sheet("bundle", REQUIRED | ({Check.SESSION_VALIDITY} if session else set()))
    _check_nonce(sheet, evidence, policy, nonce, nonce_age)  # 1
    expires_at = min(now + policy.max_verdict_age, _check_keyset(sheet, keyset, now))  # 2
    if session:
        _check_session(sheet, session, keyset, now)
    _check_workload(sheet, workload, policy.workload)
    devices = _devices(sheet, evidence, context)  # 3
    cpu = _cpu(sheet, evidence, context)  # 4
    return Verdict.of(
        [sheet, *cpu, *devices],
        at=now,
        simulated=policy.roots.simulated,
        custom_roots=policy.roots.custom,
        expires_at=expires_at,
    )


def _check_nonce(
    sheet: Sheet, bundle: Bundle, policy: Policy, nonce: bytes | None, age: timedelta | None
) -> None:
    if nonce is None:
        sheet.unevaluable(Check.NONCE, "the verifier gave no nonce", "32 bytes chosen by the verifier")
    else:
        sheet.equal(Check.NONCE, bundle.nonce, nonce)
    limit = policy.max_nonce_age
    expected = f"at most {limit.total_seconds():.0f} s"
    if age is None:
        sheet.unevaluable(Check.FRESHNESS, "when the nonce was made is not known", expected)
    else:
        found = f"{age.total_seconds():.1f} s"
        sheet.record(Check.FRESHNESS, timedelta() <= age <= limit, found, expected)


def _check_keyset(sheet: Sheet, keyset: Keyset, now: datetime) -> datetime:
    """Check the keyset's validity; returns when it ends, or `now` if it does not hold."""
    clock = int(now.timestamp())
    current = keyset.not_before <= clock < keyset.not_after
    short = keyset.not_after - keyset.not_before <= MAX_LIFETIME
    found = f"{_instant(keyset.not_before)} to {_instant(keyset.not_after)}"
    expected = f"holds at {_instant(clock)}, for at most 24 h"
    if not sheet.record(Check.KEYSET_VALIDITY, current and short, found, expected):
        return now
    return datetime.fromtimestamp(keyset.not_after, UTC)


def _check_session(sheet: Sheet, session: Session, keyset: Keyset, now: datetime) -> None:
    clock = int(now.timestamp())
    fresh = clock < session.not_after <= clock + SESSION_WINDOW
    distinct = session.key.key_id not in {key.key_id for key in keyset.ohttp}
    found = f"key id {session.key.key_id}, until {_instant(session.not_after)}"
    expected = f"a key id of its own, expiring within {SESSION_WINDOW} s"
    sheet.record(Check.SESSION_VALIDITY, fresh and distinct, found, expected)


def _check_workload(sheet: Sheet, workload: Workload, rules: WorkloadPolicy | None) -> None:
    sheet.claims["software"] = workload.software
    sheet.claims["models"] = [model.to_json() for model in workload.models]
    sheet.claims["adapters"] = [adapter.to_json() for adapter in workload.adapters]
    if rules is None:
        for check in sorted(c for c in REQUIRED if c.startswith("workload.")):
            sheet.unevaluable(check, "the policy has no [workload] section")
        return
    found = workload.software
    sheet.record(Check.WORKLOAD_SOFTWARE, found in rules.software, found, _listed(rules.software))
    _match(sheet, Check.WORKLOAD_MODELS, workload.models, rules.models, rules.allow_any_model)
    _match(sheet, Check.WORKLOAD_ADAPTERS, workload.adapters, rules.adapters, rules.allow_any_adapter)
    in_force = {*workload.policies} | ({workload.consent} if workload.consent else set())
    allowed = in_force <= rules.policies
    sheet.record(Check.WORKLOAD_POLICIES, allowed, _listed(in_force), _listed(rules.policies))
    sheet.record(Check.WORKLOAD_CLOCK, workload.clock in rules.clocks, workload.clock, _listed(rules.clocks))


def _match(
    sheet: Sheet, check: CheckId, loaded: Iterable[LoadedModel], allowed: frozenset[bytes], any_root: bool
) -> None:
    found = _listed(f"{item.name} {item.root.hex()}" for item in loaded)
    expected = "any, as the policy spells out" if any_root else _listed(root.hex() for root in allowed)
    sheet.record(check, any_root or {item.root for item in loaded} <= allowed, found, expected)


def _devices(sheet: Sheet, bundle: Bundle, context: Context) -> list[Sheet]:
    rules = context.policy.nvidia_gpu
    kinds = [device.tee for device in bundle.devices]
    wanted = ["nvidia-gpu"] * (rules.count if rules else 0)
    sheet.record(Check.DEVICES, kinds == wanted, ", ".join(kinds) or "none", ", ".join(wanted) or "none")
    sheets: list[Sheet] = []
    for index, device in enumerate(bundle.devices if rules else ()):
        nonce = gpu_nonce(bundle.nonce, bundle.keyset, bundle.session or b"", index)
        subject = f"gpu{index}"
        sheets.append(nvidia.appraise(device.report, device.chain, context, subject=subject, nonce=nonce))
    names = [str(s.claims.get("device_certificate", "")) for s in sheets]
    distinct = len(set(names)) == len(names) and all(names)
    sheet.record(Check.DEVICES_DISTINCT, distinct, f"{len(set(names))} distinct", f"{len(names)}")
    return sheets


def _cpu(sheet: Sheet, bundle: Bundle, context: Context) -> list[Sheet]:
    devices = [device.bound() for device in bundle.devices]
    expected = report_data(bundle.nonce, bundle.keyset, bundle.session or b"", devices, bundle.workload)
    accepted = {"sev-snp"} if context.policy.snp else set()
    if not sheet.record(Check.CPU_TEE, bundle.cpu.tee in accepted, bundle.cpu.tee, _listed(accepted)):
        return []
    evidence = bundle.cpu
    return [
        snp.appraise(evidence.report, evidence.endorsements, context, subject="cpu0", report_data=expected)
    ]


def _listed(items: Iterable[str]) -> str:
    return ", ".join(sorted(items)) or "none"


def _instant(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"
