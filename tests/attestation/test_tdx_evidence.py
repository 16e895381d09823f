"""Genuine TDX quotes: the expected verdict, the decisive check, every claim."""

from typing import Any

import pytest

from attestation import Kind, MalformedEvidence, tdx
from attestation.dcap.checks import DcapCheck
from attestation.verdict import Outcome

from ..shared import shared
from . import tdx_cases as cases
from .tdx_cases import load, outcome, tdx_rules, verdict

CASES = cases.names("tdx")
DECISIVE = {
    "tdx/fail-stale-collateral": {"dcap.pck-crl", "dcap.tcb-info-current", "dcap.qe-identity-current"},
    "tdx/v4-debug": {"tdx.debug"},
    "tdx/v4-gcp-outofdate": {"dcap.tcb-status", "dcap.advisories"},
    "tdx/v4-no-matching-tcb-level": {"dcap.tcb-status", "tdx.attributes"},
    "tdx/v5-alibaba-outofdate-2026": {"dcap.tcb-status", "dcap.advisories"},
    "tdx/v5-no-matching-tcb-level": {"dcap.tcb-status"},
}
# The evidence's own policy says nothing of service TDs and configuration ids.
RULES = {"allow_any_service_td": True, "allow_any_config_ids": True}


def appraise(case: cases.Case, **keys: Any) -> Any:
    rules = tdx_rules(**(RULES | keys))
    return tdx.appraise(
        case.quote, case.context(rules), subject="cpu0", report_data=None, event_log=case.event_log
    )


def test_the_evidence_is_found() -> None:
    shared("evidence", "tdx")
    assert len(CASES) >= 12


@pytest.mark.parametrize("name", CASES)
def test_verdict_and_the_checks_that_decide_it(name: str) -> None:
    case = load(name)
    found = verdict(appraise(case), case.now)
    assert found.accepted == (case.expected["verdict"] == "pass"), found.summary()
    assert {str(result.check) for result in found.blocking()} == DECISIVE.get(name, set())
    assert not [result for result in found.results if result.outcome is Outcome.NOT_REACHED]


@pytest.mark.parametrize("name", CASES)
def test_claims(name: str) -> None:
    case = load(name)
    claims = appraise(case).claims
    expected = case.expected["claims"] | {"tcb": case.expected["tcb"]}
    tcb = {key: claims["tcb"][key] for key in expected["tcb"]}
    assert {key: claims[key] for key in expected} | {"tcb": tcb} == expected


def test_every_measurement_and_report_data_pinned() -> None:
    case = load("tdx/v4-gcp-ccel")
    facts = case.expected["claims"]
    pinned = {f"{name}s": [facts[name]] for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")}
    rules = tdx_rules(
        allow_any_measurement=None,
        allow_any_report_data=None,
        report_data=[facts["report_data"]],
        mrseams=[facts["mrseam"]],
        xfams=[facts["xfam"]],
        fmspcs=["00806f050000"],
        minimum_tee_tcb_svn=facts["tee_tcb_svn"],
        minimum_tcb_evaluation_data_number=17,
        minimum_pcesvn=11,
        minimum_qe_isvsvn=6,
        require_event_log=True,
        **pinned,
    )
    sheet = tdx.appraise(
        case.quote, case.context(rules), subject="cpu0", report_data=None, event_log=case.event_log
    )
    assert verdict(sheet, case.now).accepted


def test_no_check_passes_with_nothing_to_judge_by() -> None:
    case = load("tdx/v5-uptodate")
    context = case.context(tdx_rules(), **{kind.name: () for kind in Kind if kind.name.startswith("INTEL")})
    sheet = tdx.appraise(case.quote, context, subject="cpu0", report_data=None)
    found = verdict(sheet, case.now)
    assert not found.accepted and found.unevaluable
    for check in (DcapCheck.ROOT_CRL, DcapCheck.PCK_CRL, DcapCheck.TCB_INFO_SIGNATURE, DcapCheck.TCB_STATUS):
        assert outcome(sheet, check) == "unevaluable"


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind.name.startswith("INTEL")])
def test_each_kind_of_collateral_is_needed(kind: Kind) -> None:
    case = load("tdx/v5-uptodate")
    sheet = tdx.appraise(
        case.quote, case.context(tdx_rules(), **{kind.name: ()}), subject="cpu0", report_data=None
    )
    # The PCK CRL's issuer is in the quote, so its chain is not needed.
    needed = kind is not Kind.INTEL_PCK_CRL_CHAIN
    assert verdict(sheet, case.now).accepted != needed


def test_collateral_is_chosen_by_content_among_many() -> None:
    case, others = load("tdx/v5-uptodate"), [load(name) for name in CASES]
    everything = {
        kind: tuple(item for other in (*others, case) for item in other.collateral.of(kind))
        for kind in Kind
        if kind.name.startswith("INTEL")
    }
    context = case.context(tdx_rules(), **{kind.name: found for kind, found in everything.items()})
    sheet = tdx.appraise(case.quote, context, subject="cpu0", report_data=None)
    assert verdict(sheet, case.now).accepted
    assert sheet.claims["tcb"]["tcb_eval_num"] == 18


def test_old_collateral_that_still_holds_gives_way_to_newer() -> None:
    case, newer = load("tdx/v5-alibaba-uptodate-2025"), load("tdx/v5-alibaba-outofdate-2026")
    both = {
        kind.name: case.collateral.of(kind) + newer.collateral.of(kind)
        for kind in Kind
        if kind.name.startswith("INTEL")
    }
    context = newer.context(tdx_rules(**RULES, collateral_grace_hours=24 * 90), **both)
    sheet = tdx.appraise(case.quote, context, subject="cpu0", report_data=None)
    assert sheet.claims["tcb"]["converged_tcb_status"] == "OutOfDate"


def test_stale_collateral_passes_only_within_the_grace_written_out() -> None:
    case = load("tdx/v5-uptodate")
    late = case.now.replace(month=3, day=21)
    for hours, accepted in ((0, False), (6, False), (48, True)):
        rules = tdx_rules(collateral_grace_hours=hours)
        context = cases.context(rules, case.collateral, late)
        sheet = tdx.appraise(case.quote, context, subject="cpu0", report_data=None)
        assert verdict(sheet, late).accepted == accepted


def test_an_sgx_quote_is_not_a_tdx_quote() -> None:
    case = load("sgx/v3-config-and-swhardening-needed")
    with pytest.raises(MalformedEvidence):
        tdx.appraise(case.quote, case.context(tdx_rules()), subject="cpu0", report_data=None)
