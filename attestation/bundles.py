"""How a Cloister bundle is judged: what ties CPU, devices, keys and workload together."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from .binding import DIGEST_SIZE, gpu_nonce, report_data
from .checks import BundleCheck as Check
from .checks import CheckId
from .context import Context
from .evidence import Bundle, CpuEvidence, DeviceEvidence
from .expected import Expected
from .freshness import check_age
from .keyset import MAX_LIFETIME, Keyset, LoadedModel, Session, Workload
from .policy import Policy, WorkloadPolicy
from .sources import AzureVtpm
from .standalone import (
    AZURE_SNP,
    AZURE_TDX,
    CPU_SECTIONS,
    GPU,
    MORE_THAN_HARDWARE,
    SWITCH,
    appraise_devices,
    appraise_vtpm,
)
from .verdict import Sheet

SESSION_WINDOW = 120  # a key lives 60 s; the rest is for clocks that differ
REQUIRED = frozenset(Check) - {Check.SESSION_VALIDITY}


def appraise_bundle(bundle: Bundle, context: Context, expected: Expected) -> tuple[list[Sheet], datetime]:
    """The sheets of `bundle`, and when what it says ends. Raises MalformedEvidence.

    1. nonce and freshness;  2. keyset, session and workload are what the policy allows;
    3. each device report is genuine and signs this nonce and these keys;
    4. the CPU report is genuine and its report data commits to 1-3.
    """
    keyset = Keyset.from_bytes(bundle.keyset)
    session = Session.from_bytes(bundle.session) if bundle.session is not None else None
    workload = Workload.from_bytes(bundle.workload)
    demanded = session is not None or context.policy.require_session
    sheet = Sheet("bundle", REQUIRED | ({Check.SESSION_VALIDITY} if demanded else set()))
    check_nonce(sheet, bundle.nonce, context.policy, expected)  # 1
    ends = check_keyset(sheet, keyset, context.now)  # 2
    if demanded:
        _check_session(sheet, session, keyset, context.now)
    check_workload(sheet, workload, context.policy.workload)
    devices = _devices(sheet, bundle, context)  # 3
    cpu = _cpu(sheet, bundle, context)  # 4
    return [sheet, *cpu, *devices], ends


def check_nonce(sheet: Sheet, nonce: bytes, policy: Policy, expected: Expected) -> None:
    """Check that the evidence answers the verifier's own nonce, and soon enough."""
    if expected.nonce is None:
        sheet.unevaluable(Check.NONCE, "the verifier gave no nonce", "32 bytes chosen by the verifier")
    else:
        sheet.equal(Check.NONCE, nonce, expected.nonce)
    check_age(sheet, Check.FRESHNESS, policy, expected.nonce_age)


def check_keyset(sheet: Sheet, keyset: Keyset, now: datetime) -> datetime:
    """Check the keyset's validity; returns when it ends, or `now` if it does not hold."""
    clock = int(now.timestamp())
    current = keyset.not_before <= clock < keyset.not_after
    short = keyset.not_after - keyset.not_before <= MAX_LIFETIME
    found = f"{_instant(keyset.not_before)} to {_instant(keyset.not_after)}"
    wanted = f"holds at {_instant(clock)}, for at most 24 h"
    if not sheet.record(Check.KEYSET_VALIDITY, current and short, found, wanted):
        return now
    return datetime.fromtimestamp(keyset.not_after, UTC)


def _check_session(sheet: Sheet, session: Session | None, keyset: Keyset, now: datetime) -> None:
    clock = int(now.timestamp())
    wanted = f"a key id of its own, expiring within {SESSION_WINDOW} s"
    if session is None:
        sheet.record(Check.SESSION_VALIDITY, False, "no one-time key, and the policy demands one", wanted)
        return
    fresh = clock < session.not_after <= clock + SESSION_WINDOW
    distinct = session.key.key_id not in {key.key_id for key in keyset.ohttp}
    found = f"key id {session.key.key_id}, until {_instant(session.not_after)}"
    sheet.record(Check.SESSION_VALIDITY, fresh and distinct, found, wanted)


def check_workload(sheet: Sheet, workload: Workload, rules: WorkloadPolicy | None) -> None:
    """Check what is loaded; without a [workload] section nothing can be judged."""
    sheet.claims["software"] = workload.software
    sheet.claims["engine"] = dict(workload.engine)
    sheet.claims["models"] = [model.to_json() for model in workload.models]
    sheet.claims["adapters"] = [adapter.to_json() for adapter in workload.adapters]
    if rules is None:
        for check in sorted(c for c in REQUIRED if c.startswith("workload.")):
            sheet.unevaluable(check, "the policy has no [workload] section")
        return
    found = workload.software
    sheet.record(Check.WORKLOAD_SOFTWARE, found in rules.software, found, _listed(rules.software))
    owners = {owner.hex() for owner in rules.owners} | {""}
    models = None if rules.allow_any_model else Pins(rules.models, rules.named_models, owners)
    _match(sheet, Check.WORKLOAD_MODELS, workload.models, models)
    adapters = None if rules.allow_any_adapter else Pins(rules.adapters, rules.named_adapters, owners)
    _match(sheet, Check.WORKLOAD_ADAPTERS, workload.adapters, adapters)
    in_force = set(workload.policies)
    allowed = in_force <= rules.policies
    sheet.record(Check.WORKLOAD_POLICIES, allowed, _listed(in_force), _listed(rules.policies))
    consents = rules.consents or {""}
    found = workload.consent or "none"
    sheet.record(Check.WORKLOAD_CONSENT, workload.consent in consents, found, _listed(rules.consents))
    sheet.record(Check.WORKLOAD_CLOCK, workload.clock in rules.clocks, workload.clock, _listed(rules.clocks))


class Pins(NamedTuple):
    """Roots that may be loaded under any name, and those that may under one; owners who may state roots."""

    roots: frozenset[bytes]
    named: frozenset[tuple[str, bytes]]
    owners: set[str]

    def allow(self, item: LoadedModel) -> bool:
        pinned = item.root in self.roots or (item.name, item.root) in self.named
        return pinned and item.owner in self.owners

    def __str__(self) -> str:
        named = [f"{name}={root.hex()}" for name, root in self.named]
        listed = _listed([*(root.hex() for root in self.roots), *named])
        return listed + (f"; owners {_listed(self.owners - {''})}" if self.owners != {""} else "")


def _match(sheet: Sheet, check: CheckId, loaded: Iterable[LoadedModel], allowed: Pins | None) -> None:
    found = _listed(f"{item.name}={item.root.hex()}{_of(item)}" for item in loaded)
    if allowed is None:
        sheet.record(check, True, found, "any, as the policy spells out")
    else:
        sheet.record(check, all(map(allowed.allow, loaded)), found, str(allowed))


def _of(item: LoadedModel) -> str:
    return f" as owner {item.owner} states" if item.owner else ""


def _devices(sheet: Sheet, bundle: Bundle, context: Context) -> list[Sheet]:
    session = bundle.session or b""
    nonces = [gpu_nonce(bundle.nonce, bundle.keyset, session, i) for i in range(len(bundle.devices))]
    return check_devices(sheet, bundle.devices, context, nonces)


def check_devices(
    sheet: Sheet, devices: Sequence[DeviceEvidence], context: Context, nonces: Sequence[bytes]
) -> list[Sheet]:
    """Check that there are as many devices as asked for; the sheets of those, each with its own nonce."""
    gpus, switches = context.policy.nvidia_gpu, context.policy.nvidia_switch
    kinds = sorted(device.tee for device in devices)
    wanted = [GPU] * (gpus.count if gpus else 0) + [SWITCH] * (switches.count if switches else 0)
    sheet.record(Check.DEVICES, kinds == wanted, ", ".join(kinds) or "none", ", ".join(wanted) or "none")
    return appraise_devices(devices, context, nonces) if gpus or switches else []


def check_cpu_tee(sheet: Sheet, tee: str, policy: Policy) -> bool:
    """Check that the policy has what it takes to judge this CPU."""
    known = {
        name
        for name, needed in CPU_SECTIONS.items()
        if all(getattr(policy, n) for n in needed)
        and not (len(needed) == 1 and any(getattr(policy, n) for n in MORE_THAN_HARDWARE[needed[0]]))
    }
    return sheet.record(Check.CPU_TEE, tee in known, tee, _listed(known))


def _cpu(sheet: Sheet, bundle: Bundle, context: Context) -> list[Sheet]:
    cpu = bundle.cpu
    if not check_cpu_tee(sheet, cpu.tee, context.policy):
        return []
    devices = [device.bound() for device in bundle.devices]
    session = bundle.session or b""
    bound = report_data(bundle.nonce, bundle.keyset, session, devices, bundle.workload)
    return appraise_cpu(cpu, context, bound)


def appraise_cpu(cpu: CpuEvidence, context: Context, bound: bytes) -> list[Sheet]:
    """The sheets of a CPU whose report has to carry `bound`: a digest of 48 bytes, then zeros.

    The policy has its section.
    """
    if cpu.tee in (AZURE_SNP, AZURE_TDX):  # the paravisor owns the report data; the quote is ours
        return _vtpm(cpu, context, Expected(nonce=bound[:DIGEST_SIZE]))
    if cpu.tee == "tdx":
        from . import tdx

        log = next(iter(cpu.endorsements), None)
        return [tdx.appraise(cpu.report, context, subject="cpu0", report_data=bound, event_log=log)]
    from . import snp

    return [snp.appraise(cpu.report, cpu.endorsements, context, subject="cpu0", report_data=bound)]


def _vtpm(cpu: CpuEvidence, context: Context, expected: Expected) -> list[Sheet]:
    """The sheets of an Azure machine whose vTPM must have quoted; the policy cannot waive it here."""
    from .tpm import TpmCheck

    parts = AzureVtpm.from_json(cpu.report, cpu.endorsements)
    hardware, vtpm = appraise_vtpm(parts, cpu.tee, context, expected)
    vtpm.required |= {TpmCheck.QUOTE_SIGNATURE, TpmCheck.QUOTE_NONCE, TpmCheck.PCR_DIGEST}
    return [hardware, vtpm]


def _listed(items: Iterable[str]) -> str:
    return ", ".join(sorted(items)) or "none"


def _instant(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"
