"""How evidence for a key broker is judged: the checks of a bundle, over the `coco-kbs` convention."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..binding import kbs_device_nonce, kbs_report_data
from ..bundles import (
    appraise_cpu,
    check_cpu_tee,
    check_devices,
    check_keyset,
    check_nonce,
    check_workload,
)
from ..checks import BundleCheck as Check
from ..checks import CheckId
from ..context import Context
from ..errors import MalformedEvidence
from ..expected import Expected
from ..keyset import Keyset, Workload
from ..policy import Policy
from ..values import exact, octets
from ..verdict import Sheet
from .evidence import KbsEvidence

ALWAYS = frozenset({Check.NONCE, Check.FRESHNESS, Check.CPU_TEE, Check.DEVICES})
WORKLOAD = frozenset(check for check in Check if check.startswith("workload."))


def appraise_kbs(evidence: KbsEvidence, context: Context, expected: Expected) -> tuple[list[Sheet], datetime]:
    """The sheets of `evidence`, and when what it says ends. Raises MalformedEvidence.

    `expected.nonce`: the challenge's nonce as it was sent, ASCII. A policy with a [workload] section
    needs a worker that binds its keyset and workload, which only a worker of ours does.

    1. nonce and freshness;  2. keyset and workload, as far as the policy asks;
    3. each device report is genuine and signs the runtime data;
    4. the CPU report is genuine, and its report data commits to 1-3.
    """
    runtime = evidence.runtime
    bound = _bound(runtime)
    cpu, devices = evidence.cpu(), evidence.devices()
    sheet = Sheet("bundle", _required(context.policy, bound is not None))
    check_nonce(sheet, runtime["nonce"].encode(), context.policy, expected)  # 1
    ends = _check_bound(sheet, bound, context)  # 2
    nonces = [kbs_device_nonce(runtime)] * len(devices)
    sheets = check_devices(sheet, devices, context, nonces)  # 3
    if not check_cpu_tee(sheet, cpu.tee, context.policy):
        return [sheet, *sheets], ends
    report_data = kbs_report_data(runtime, evidence.additional)
    return [sheet, *appraise_cpu(cpu, context, report_data), *sheets], ends  # 4


def _required(policy: Policy, bound: bool) -> frozenset[CheckId]:
    asked = WORKLOAD | {Check.KEYSET_VALIDITY} if policy.workload else frozenset[CheckId]()
    return ALWAYS | asked | (frozenset({Check.KEYSET_VALIDITY}) if bound else frozenset())


def _bound(runtime: Mapping[str, Any]) -> tuple[Keyset, Workload] | None:
    names = {"nonce", "tee-pubkey"} | (runtime.keys() & {"cloister"})
    table = exact(runtime, names, "runtime data")
    key = table["tee-pubkey"]
    if not isinstance(key, dict) or not all(_text(item) for pair in key.items() for item in pair):
        raise MalformedEvidence("tee-pubkey is not a flat object of strings")
    if not _text(table["nonce"]):
        raise MalformedEvidence("the nonce is not text")
    if "cloister" not in table:
        return None
    entry = exact(table["cloister"], {"keyset", "workload"}, "the cloister entry")
    return Keyset.from_bytes(octets(entry["keyset"])), Workload.from_bytes(octets(entry["workload"]))


def _text(value: Any) -> bool:
    """Whether `value` is a string that can be hashed: JSON allows halves of surrogate pairs."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check_bound(sheet: Sheet, bound: tuple[Keyset, Workload] | None, context: Context) -> datetime:
    latest = context.now + context.policy.max_verdict_age
    if bound is not None:
        keyset, workload = bound
        if context.policy.workload:
            check_workload(sheet, workload, context.policy.workload)
        return check_keyset(sheet, keyset, context.now)
    for check in sorted(sheet.required - ALWAYS):
        sheet.unevaluable(check, "the worker binds no keyset and workload", "a worker of ours")
    return latest


def workload_of(runtime: Mapping[str, Any]) -> Workload | None:
    """The workload that runtime data binds, or None. MalformedEvidence as in `appraise_kbs`."""
    bound = _bound(runtime)
    return bound[1] if bound is not None else None
