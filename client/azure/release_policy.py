"""A verifier's policy as a release policy of Azure Key Vault, judged on a token of Azure Attestation.

The grammar (version 1.0.0) compares claims for equality and knows no order, no sets and no GPUs. What a
policy demands and the claims cannot show is refused by the name of its key: nothing is widened in silence.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from attestation import MalformedEvidence, Policy, Workload
from attestation.binding import sha256
from attestation.bundles import check_workload
from attestation.checks import BundleCheck
from attestation.loopback import is_loopback
from attestation.snp import GuestFlag, PlatformInfo, Product, SnpPolicy, Tcb
from attestation.verdict import Outcome, Sheet
from client.errors import ClientError

VERSION: Final = "1.0.0"
PREFIX: Final = "x-ms-sevsnpvm-"
WORKLOAD: Final = "x-ms-runtime.cloister.workload"
Condition = Mapping[str, Any]

_SETS = {
    "measurements": "launchmeasurement",
    "host_data": "hostdata",
    "family_ids": "familyId",
    "image_ids": "imageId",
    "id_key_digests": "idkeydigest",
    "author_key_digests": "authorkeydigest",
    "report_ids": "reportid",
}
_FLAGS = {
    "allow_debug": "is-debuggable",
    "allow_migrate_ma": "migration-allowed",
    "allow_smt": "smt-allowed",
}
_LEVELS = {"bl": "bootloader-svn", "tee": "tee-svn", "snp": "snpfw-svn", "ucode": "microcode-svn"}
_UNSEEN_SETS = ("chip_ids", "csp_ids")
_BOUND = ("report_data",)  # the service holds it to the runtime data, as a bundle's is held to its binding
_UNSEEN_FLAGS = (
    "allow_cxl",
    "allow_tio",
    "allow_missing_alias_check",
    "allow_unknown_platform_bits",
    "allow_provisional_firmware",
    "allow_vlek",
    "allow_masked_chip_id",
    "allow_missing_crl",
)
_UNSEEN_MINIMUMS: Mapping[str, object] = {
    "minimum_guest_svn": 0,
    "minimum_report_version": 2,
    "minimum_guest_abi": (0, 0),
    "minimum_version": (0, 0),
    "minimum_build": 0,
    "require_launch_mitigations": 0,
    "require_current_mitigations": 0,
    "require_guest": GuestFlag(0),
    "require_platform": PlatformInfo(0),
}


class NotExpressible(ClientError):
    """The policy demands what a release policy cannot. `keys` are the policy's keys, by section."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(
            "Azure's release policy cannot demand what this policy does; loosen in the policy, by name, what "
            f"you can do without: {'; '.join(keys)}"
        )
        self.keys = tuple(keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a release policy pins besides the policy: the Azure Attestation instance and exact values.

    `tcb`: the one TCB version that is accepted. `workloads`: whole workload documents, as the worker will
    have them when it asks. `compliance`: a value of x-ms-compliance-status, which only Azure's own images
    have.
    """

    authority: str
    tcb: Tcb | None = None
    workloads: Sequence[bytes] = ()
    compliance: str | None = None


def release_policy(policy: Policy, target: Target) -> dict[str, Any]:
    """The release policy as JSON values. NotExpressible names every key that stands in the way."""
    refused = list(_refused(policy, target))
    if refused or policy.snp is None:
        raise NotExpressible(refused)
    conditions = [_equals("x-ms-attestation-type", "sevsnpvm"), *_snp(policy.snp, target)]
    if target.compliance is not None:
        conditions.append(_equals("x-ms-compliance-status", target.compliance))
    if policy.workload is not None:
        digests = [f"sha256:{sha256(workload).hex()}" for workload in target.workloads]
        conditions.append(_any(WORKLOAD, digests))
    return {"version": VERSION, "anyOf": [{"authority": target.authority, "allOf": conditions}]}


def encode(policy: Mapping[str, Any]) -> bytes:
    """The policy as it is sent to the vault."""
    return json.dumps(policy, separators=(",", ":")).encode()


def _snp(rules: SnpPolicy, target: Target) -> Iterator[Condition]:
    for key, claim in _SETS.items():
        values = getattr(rules, key)
        if values is not None:
            yield _any(PREFIX + claim, sorted(value.hex() for value in values))
    yield _any(f"{PREFIX}vmpl", sorted(rules.vmpls))
    for key, claim in _FLAGS.items():
        if not getattr(rules, key):
            yield _equals(PREFIX + claim, False)
    if target.tcb is not None:
        for part, claim in _LEVELS.items():
            yield _equals(PREFIX + claim, getattr(target.tcb, part))


def _refused(policy: Policy, target: Target) -> Iterator[str]:
    yield from _authority(policy, target.authority)
    if policy.snp is None:
        yield "[snp] is missing, and no other TEE is written here"
        return
    for name in ("nvidia_gpu", "nvidia_switch"):
        if getattr(policy, name) is not None:
            yield f"[{name}]: Azure Attestation says nothing of devices; use a broker"
    yield from _unseen(policy.snp)
    yield from _tcb(policy.snp, target.tcb)
    yield from _workloads(policy, target.workloads)


def _authority(policy: Policy, authority: str) -> Iterator[str]:
    parts = urlsplit(authority)
    if parts.scheme != "https" or not parts.hostname or parts.path or parts.query:
        yield "the authority is an https address without a final slash"
    elif policy.roots.simulated and not is_loopback(parts.hostname):
        yield 'roots = ["simulator"] goes with a stand-in on loopback only'
    elif policy.roots.custom or not policy.roots.names & {"amd", "simulator"}:
        yield 'roots: Azure Attestation judges by AMD\'s own, so roots has to name "amd"'


def _unseen(rules: SnpPolicy) -> Iterator[str]:
    if rules.products != frozenset(Product):
        yield "snp.products: the claims name no product line; list every one"
    for key in _UNSEEN_SETS:
        if getattr(rules, key) is not None:
            yield f"snp.{key}: not among the claims"
    if rules.allow_migrate_ma and rules.migration_report_ids is not None:
        yield "snp.migration_report_ids: not among the claims"
    for key in _UNSEEN_FLAGS:
        if not getattr(rules, key):
            yield f"snp.{key} = true is needed: not among the claims"
    for key, nothing in _UNSEEN_MINIMUMS.items():
        if getattr(rules, key) != nothing:
            yield f"snp.{key}: the grammar knows no order, or it is not among the claims"
    empty = [key for key in _SETS if getattr(rules, key) == frozenset()]
    yield from (f"snp.{key} is empty: nothing would pass" for key in empty)


def _tcb(rules: SnpPolicy, tcb: Tcb | None) -> Iterator[str]:
    if rules.minimum_tcb is None:
        return
    if tcb is None:
        yield "snp.minimum_tcb: the grammar knows no order; name one exact TCB version"
    elif not all(tcb.at_least(minimum) for minimum in rules.minimum_tcb.values()):
        yield "snp.minimum_tcb: the exact TCB version is below it, or of another layout"


def _workloads(policy: Policy, workloads: Sequence[bytes]) -> Iterator[str]:
    if policy.workload is None:
        return
    if not workloads:
        yield "[workload]: the grammar knows no sets; name whole workload documents"
    for raw in workloads:
        sheet = Sheet("workload", ())
        try:
            check_workload(sheet, Workload.from_bytes(raw), policy.workload)
        except MalformedEvidence as error:
            yield f"[workload]: {error}"
            continue
        failed = [result for result in sheet.results() if result.outcome is not Outcome.PASS]
        yield from (f"[workload]: {_name(result.check)} {result.found}" for result in failed)


def _name(check: object) -> str:
    return str(check) if isinstance(check, BundleCheck) else "a check"


def _equals(claim: str, value: str | int | bool) -> Condition:
    return {"claim": claim, "equals": value}


def _any(claim: str, values: Sequence[str | int]) -> Condition:
    """One of several values: an anyOf of comparisons."""
    if len(values) == 1:
        return _equals(claim, values[0])
    return {"anyOf": [_equals(claim, value) for value in values]}
