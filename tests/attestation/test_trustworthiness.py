"""The AR4SI vector: nothing that did not pass is affirming, and every failure is contraindicated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import Outcome, Verdict
from attestation.checks import CheckId
from attestation.sgx.checks import SgxCheck
from attestation.snp.checks import SnpCheck
from attestation.tdx.checks import TdxCheck
from attestation.trustworthiness import AUTHENTICITY, FEEDS, Appraisal, Tier, TrustClaim, appraisals, worst
from attestation.verdict import Sheet

from .verdicts import NOW, sheet, verdict


def vector(value: Verdict, subject: str = "cpu0") -> dict[str, int]:
    return {str(claim): number for claim, number in appraisals(value)[subject].vector.items()}


@pytest.mark.parametrize("check", SnpCheck, ids=str)
def test_every_failure_contraindicates_its_claim_and_its_subject(check: CheckId) -> None:
    value = verdict(cpu={check.name: False})
    found = appraisals(value)
    assert found["cpu0"].status is Tier.CONTRAINDICATED
    assert found["gpu0"].status is Tier.AFFIRMING  # its evidence is signed, and it passed
    assert found["bundle"].status is Tier.NONE  # it rests on the others
    numbers = vector(value)
    if FEEDS[check] == AUTHENTICITY:
        assert set(numbers.values()) == {99}
    else:
        assert Tier.of(numbers.pop(FEEDS[check])) is Tier.CONTRAINDICATED
        assert {Tier.of(number) for number in numbers.values()} == {Tier.AFFIRMING}


@pytest.mark.parametrize("check", SnpCheck, ids=str)
def test_a_required_check_without_a_result_is_never_affirming(check: CheckId) -> None:
    value = verdict(cpu={check.name: None})
    assert appraisals(value)["cpu0"].status is Tier.NONE
    numbers = vector(value)
    if FEEDS[check] == AUTHENTICITY:
        assert set(numbers.values()) == {0}
    else:
        assert numbers[FEEDS[check]] == 0


def test_a_check_that_the_policy_dropped_does_not_lower_what_it_accepted() -> None:
    made = Sheet("cpu0", set(SnpCheck) - {SnpCheck.CRL})
    for check in set(SnpCheck) - {SnpCheck.CRL}:
        made.record(check, True)
    made.unevaluable(SnpCheck.CRL, "no CRL")
    value = Verdict.of([made], at=NOW)
    assert value.accepted and appraisals(value)["cpu0"].status is Tier.AFFIRMING


def test_nothing_simulated_is_affirming() -> None:
    value = verdict(simulated=True)
    assert value.accepted
    for appraisal in appraisals(value).values():
        assert appraisal.status is Tier.CONTRAINDICATED
        assert Tier.AFFIRMING not in {Tier.of(number) for number in appraisal.vector.values()}
    assert vector(value) == {"instance-identity": 96, "configuration": 0, "executables": 0, "hardware": 96}


def test_a_callers_own_roots_are_a_warning() -> None:
    value = verdict(custom_roots=True)
    assert {item.status for item in appraisals(value).values()} == {Tier.WARNING}
    numbers = vector(value)
    assert Tier.of(numbers["hardware"]) is Tier.of(numbers["instance-identity"]) is Tier.WARNING


@pytest.mark.parametrize(
    ("checks", "fact"), [(SnpCheck, "policy_debug"), (TdxCheck, "debug"), (SgxCheck, "debug")]
)
@pytest.mark.parametrize("debug", [False, True])
def test_memory_open_to_the_host_is_contraindicated_even_if_a_policy_allows_it(
    checks: type[CheckId], fact: str, debug: bool
) -> None:
    made = sheet("cpu0", checks)
    made.claims[fact] = debug
    value = Verdict.of([made], at=NOW)
    found = appraisals(value)["cpu0"]
    assert value.accepted
    assert found.vector[TrustClaim.RUNTIME_OPAQUE] == (96 if debug else 2)
    assert found.status is (Tier.CONTRAINDICATED if debug else Tier.AFFIRMING)


def test_nothing_required_and_nothing_passed_is_not_affirming() -> None:
    made = Sheet("cpu0", ())
    made.record(SnpCheck.MEASUREMENT, True)
    assert appraisals(Verdict.of([made], at=NOW))["cpu0"].status is Tier.NONE


class _Strange(CheckId):
    THING = ("strange.thing", "nowhere", "never", "nothing")


def test_a_check_that_the_table_does_not_know_counts_for_every_claim() -> None:
    made = sheet("cpu0", SnpCheck)
    made.record(_Strange.THING, False)
    found = appraisals(Verdict.of([made], at=NOW))["cpu0"]
    assert {Tier.of(number) for number in found.vector.values()} == {Tier.CONTRAINDICATED}


@given(st.dictionaries(st.sampled_from(list(SnpCheck)), st.sampled_from(list(Outcome))), st.booleans())
def test_affirming_only_where_everything_required_passed(
    outcomes: dict[SnpCheck, Outcome], simulated: bool
) -> None:
    made = Sheet("cpu0", SnpCheck)
    for check in SnpCheck:
        match outcomes.get(check, Outcome.PASS):
            case Outcome.PASS:
                made.record(check, True)
            case Outcome.FAIL:
                made.record(check, False)
            case Outcome.UNEVALUABLE:
                made.unevaluable(check, "why")
    value = Verdict.of([made], at=NOW, simulated=simulated)
    appraisal: Appraisal = appraisals(value)["cpu0"]
    affirmed = {claim for claim, number in appraisal.vector.items() if Tier.of(number) is Tier.AFFIRMING}
    failing = {FEEDS[check] for check, outcome in outcomes.items() if outcome is not Outcome.PASS}
    assert not affirmed & failing
    assert not (affirmed and AUTHENTICITY in failing)
    assert not (affirmed and simulated)
    assert (appraisal.status is Tier.AFFIRMING) == (value.accepted and not simulated)
    assert worst([appraisal.status, *map(Tier.of, appraisal.vector.values())]) is appraisal.status


BOUNDS = {
    Tier.CONTRAINDICATED: (-128, -97, 96, 127),
    Tier.WARNING: (-96, -33, 32, 95),
    Tier.AFFIRMING: (-32, -2, 2, 31),
    Tier.NONE: (-1, 0, 1),
}


@pytest.mark.parametrize("tier", BOUNDS)
def test_tiers_have_the_bounds_of_ar4si(tier: Tier) -> None:
    assert {Tier.of(value) for value in BOUNDS[tier]} == {tier}
