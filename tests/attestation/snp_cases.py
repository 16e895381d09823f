"""The published SEV-SNP cases, policies for them, and what a verification of one says."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from attestation import CheckId, Collateral, Kind, Policy, Roots
from attestation.context import Context
from attestation.snp import SnpCheck, appraise
from attestation.verdict import Outcome, Sheet, Verdict
from tests.shared import shared

LENIENT: dict[str, Any] = {
    "products": ["Milan", "Genoa", "Turin"],
    "allow_any_measurement": True,
    "allow_any_report_data": True,
    "allow_any_host_data": True,
    "allow_any_id_block": True,
    "allow_any_tcb": True,
    "allow_smt": True,
    "allow_missing_alias_check": True,
    "allow_provisional_firmware": True,
    "allow_vlek": True,
    "allow_any_csp": True,
    "allow_missing_crl": True,
    "vmpls": [0, 1],
}
"""What genuine machines of the years 2022 to 2026 need; debugging and migration stay refused."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One folder of evidence."""

    name: str
    report: bytes
    files: tuple[bytes, ...]
    roots: Roots
    now: datetime
    accepted: bool
    claims: Mapping[str, Any]


def names() -> list[str]:
    """The cases' names; none where the evidence is not there."""
    folder = Path(__file__).resolve().parents[3] / "shared/evidence/snp"
    return sorted(path.parent.name for path in folder.glob("*/case.json"))


def load_case(name: str) -> Case:
    """The case `name`; skips where the evidence is not there."""
    evidence = shared("evidence")
    folder = evidence / "snp" / name
    described = json.loads((folder / "case.json").read_text())
    expected = described["expected"]
    anchors = {Path(r).stem: (evidence / r).read_bytes() for r in described.get("roots", [])}
    amd = {stem: x509.load_pem_x509_certificate(raw) for stem, raw in anchors.items()}
    others = sorted(file for file in described["files"] if file != "report.bin")
    return Case(
        name=name,
        report=(folder / "report.bin").read_bytes(),
        files=tuple((folder / file).read_bytes() for file in others),
        roots=Roots(names=frozenset({"case"}), anchors={"amd": amd}, custom=True),
        now=datetime.fromisoformat(expected["at_time"]),
        accepted=expected["verdict"] == "pass",
        claims=expected.get("claims", {}),
    )


def policy(roots: Roots, **section: Any) -> Policy:
    """A policy with [snp] as given, read from TOML."""
    return Policy.from_toml(toml(**section)).with_roots(roots)


def toml(**section: Any) -> str:
    """A policy file whose [snp] section holds `section`; a dict under minimum_tcb becomes tables."""
    floors = section.pop("minimum_tcb", {})
    lines = ["version = 1", 'roots = ["amd"]', "max_verdict_age = 3600", "[snp]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in section.items()]
    for product, levels in floors.items():
        lines += [f"[snp.minimum_tcb.{product}]", *(f"{name} = {level}" for name, level in levels.items())]
    return "\n".join(lines)


def verify(
    report: bytes,
    endorsements: Sequence[bytes],
    rules: Policy,
    now: datetime,
    *,
    crls: Sequence[bytes] = (),
    report_data: bytes | None = None,
) -> tuple[Sheet, Verdict]:
    """The sheet of one report, and the verdict over it alone."""
    collateral = Collateral({Kind.AMD_CRL: tuple(crls)} if crls else {})
    context = Context(policy=rules, collateral=collateral, now=now)
    sheet = appraise(report, endorsements, context, subject="cpu0", report_data=report_data)
    return sheet, Verdict.of([sheet], at=now)


def verify_case(case: Case, **changes: Any) -> tuple[Sheet, Verdict]:
    """The verdict on a published case under the lenient policy with `changes`."""
    rules = policy(case.roots, **{k: v for k, v in {**LENIENT, **changes}.items() if v is not None})
    return verify(case.report, case.files, rules, case.now)


def blocking(verdict: Verdict) -> set[CheckId]:
    """The checks that keep the verdict from being accepted."""
    return {result.check for result in verdict.blocking()}


def outcome(sheet: Sheet, check: SnpCheck) -> Outcome:
    """How `check` ended."""
    return next(result.outcome for result in sheet.results() if result.check is check)
