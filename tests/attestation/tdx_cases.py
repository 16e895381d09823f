"""Genuine TDX and SGX evidence with its collateral, and policies to judge it by."""

import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from attestation import Collateral, Kind, Policy, Roots
from attestation.context import Context
from attestation.dcap.policy import DcapPolicy
from attestation.section import Section
from attestation.sgx import SgxPolicy
from attestation.tdx import TdxPolicy
from attestation.verdict import Sheet, Verdict

from ..shared import shared

ZERO = "00" * 48
OPEN_TDX: dict[str, Any] = {
    "allow_any_measurement": True,
    "allow_any_report_data": True,
    "minimum_tcb_evaluation_data_number": 15,
}
OPEN_SGX: dict[str, Any] = OPEN_TDX


@dataclass(frozen=True)
class Rules:
    """The part of a policy that an appraiser reads."""

    roots: Roots
    tdx: TdxPolicy | None = None
    sgx: SgxPolicy | None = None


@dataclass(frozen=True)
class Case:
    """A case folder of the evidence: its quote, collateral, clock and expectations."""

    name: str
    folder: Path
    facts: dict[str, Any]
    collateral: Collateral
    now: datetime

    @property
    def quote(self) -> bytes:
        return (self.folder / "quote.bin").read_bytes()

    @property
    def expected(self) -> dict[str, Any]:
        return cast(dict[str, Any], self.facts["expected"])

    @property
    def event_log(self) -> bytes | None:
        for name in ("ccel_data.bin.gz", "event_log.json"):
            if name in self.facts["files"]:
                return (self.folder / name).read_bytes()
        return None

    def context(self, rules: DcapPolicy, **items: tuple[bytes, ...]) -> Context:
        """The context of this case under `rules`; `items` replace collateral by kind name."""
        table = dict(self.collateral.items) | {Kind[name]: found for name, found in items.items()}
        return context(rules, Collateral(MappingProxyType(table)), self.now)


def context(rules: DcapPolicy, collateral: Collateral, now: datetime, roots: Roots | None = None) -> Context:
    """A context whose policy holds `rules` alone, under Intel's pinned root unless others are given."""
    roots = roots or Roots.pinned({"intel"})
    tdx = rules if isinstance(rules, TdxPolicy) else None
    sgx = rules if isinstance(rules, SgxPolicy) else None
    policy = cast(Policy, Rules(roots, tdx, sgx))
    return Context(policy=policy, collateral=collateral, now=now)


def tdx_rules(**keys: Any) -> TdxPolicy:
    """A [tdx] section that asks for nothing about measurements, changed by `keys`; None takes one out."""
    table = {key: value for key, value in (OPEN_TDX | keys).items() if value is not None}
    section = Section("tdx", table)
    rules = TdxPolicy.parse(section)
    section.close()
    return rules


def sgx_rules(**keys: Any) -> SgxPolicy:
    """A [sgx] section that asks for nothing about measurements, changed by `keys`; None takes one out."""
    table = {key: value for key, value in (OPEN_SGX | keys).items() if value is not None}
    section = Section("sgx", table)
    rules = SgxPolicy.parse(section)
    section.close()
    return rules


def load(name: str) -> Case:
    """The case `name`, such as "tdx/v5-uptodate"."""
    folder = shared("evidence", *name.split("/"))
    facts = json.loads((folder / "case.json").read_text())
    window = shared("evidence", *facts["collateral"]["path"].split("/"))
    meta = json.loads((window / "meta.json").read_text())

    def evidence(path: str) -> tuple[bytes]:
        return (shared("evidence", *path.split("/")).read_bytes(),)

    items = {
        Kind.INTEL_TCB_INFO: ((window / "tcb_info.json").read_bytes(),),
        Kind.INTEL_QE_IDENTITY: ((window / "qe_identity.json").read_bytes(),),
        Kind.INTEL_PCK_CRL: ((window / "pck_crl.der").read_bytes(),),
        Kind.INTEL_TCB_SIGNING_CHAIN: evidence(meta["tcb_signing_chain"]),
        Kind.INTEL_ROOT_CRL: evidence(meta["root_ca_crl"]),
    }
    now = datetime.fromisoformat(facts["expected"]["at_time"])
    return Case(name, folder, facts, Collateral(MappingProxyType(items)), now)


def names(group: str) -> list[str]:
    """The names of the cases of `group`; empty if the evidence is not here."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "evidence" / group
    return sorted(f"{group}/{item.parent.name}" for item in folder.glob("*/case.json"))


def verdict(sheet: Sheet, now: datetime) -> Verdict:
    """The verdict over one sheet."""
    return Verdict.of([sheet], at=now)


def outcome(sheet: Sheet, check: str) -> str:
    """How the check of this name ended."""
    return next((str(r.outcome) for r in sheet.results() if r.check == check), "absent")


def without(collateral: Collateral, kind: Kind) -> Collateral:
    """`collateral` less the items of `kind`."""
    return replace(
        collateral,
        items=MappingProxyType({name: found for name, found in collateral.items.items() if name != kind}),
    )
