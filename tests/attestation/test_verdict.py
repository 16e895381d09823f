"""A verdict is accepted only if something was required, all of it passed, and nothing failed."""

from datetime import UTC, datetime

import pytest

from attestation import Outcome, Rejected, Verdict
from attestation.checks import BundleCheck as Check
from attestation.verdict import ExitCode, Sheet

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def verdict(*sheets: Sheet, **fields: object) -> Verdict:
    return Verdict.of(sheets, at=NOW, **fields)


def sheet(required: set[Check], **outcomes: bool | None) -> Sheet:
    made = Sheet("bundle", required)
    for name, passed in outcomes.items():
        if passed is None:
            made.unevaluable(Check[name], "nothing to judge by")
        else:
            made.record(Check[name], passed, "found", "expected")
    return made


def test_all_required_checks_passed_is_accepted() -> None:
    result = verdict(sheet({Check.NONCE, Check.DEVICES}, NONCE=True, DEVICES=True))
    assert (result.accepted, result.word, result.exit_code) == (True, "ACCEPTED", ExitCode.ACCEPTED)


def test_simulated_acceptance_says_so() -> None:
    result = verdict(sheet({Check.NONCE}, NONCE=True), simulated=True)
    assert (result.accepted, result.word, result.exit_code) == (True, "SIMULATED", ExitCode.SIMULATED)


def test_nothing_required_is_rejected() -> None:
    assert verdict().exit_code == ExitCode.REJECTED
    assert verdict(sheet(set(), NONCE=True)).exit_code == ExitCode.REJECTED


def test_a_required_check_that_was_never_made_rejects() -> None:
    result = verdict(sheet({Check.NONCE, Check.DEVICES}, NONCE=True))
    assert result.exit_code == ExitCode.REJECTED
    assert [(r.check, r.outcome) for r in result.blocking()] == [(Check.DEVICES, Outcome.NOT_REACHED)]


def test_a_failed_check_rejects_even_if_it_was_not_required() -> None:
    result = verdict(sheet({Check.NONCE}, NONCE=True, DEVICES=False))
    assert result.exit_code == ExitCode.REJECTED


def test_only_missing_collateral_is_unevaluable() -> None:
    assert verdict(sheet({Check.NONCE, Check.DEVICES}, NONCE=True, DEVICES=None)).exit_code == 20
    assert verdict(sheet({Check.NONCE, Check.DEVICES}, NONCE=False, DEVICES=None)).exit_code == 10


def test_an_unevaluable_check_that_is_not_required_does_not_block() -> None:
    assert verdict(sheet({Check.NONCE}, NONCE=True, DEVICES=None)).accepted


def test_a_check_counts_for_its_own_subject_only() -> None:
    other = Sheet("gpu0", {Check.NONCE})
    assert not verdict(sheet({Check.DEVICES}, NONCE=True, DEVICES=True), other).accepted


def test_a_check_is_recorded_once_and_a_subject_has_one_sheet() -> None:
    made = sheet({Check.NONCE}, NONCE=False)
    with pytest.raises(RuntimeError):
        made.record(Check.NONCE, True)
    with pytest.raises(RuntimeError):
        verdict(Sheet("cpu0", set()), Sheet("cpu0", set()))


def test_rejected_names_what_decided_it() -> None:
    result = verdict(sheet({Check.NONCE, Check.DEVICES}, NONCE=False))
    assert "bundle.nonce" in str(Rejected(result))
    assert "bundle.devices" not in str(Rejected(result))  # not reached explains nothing


def test_json_says_the_same() -> None:
    result = verdict(sheet({Check.NONCE}, NONCE=False)).to_dict()
    assert result["verdict"] == "REJECTED"
    row = result["results"][0]
    assert (row["check"], row["outcome"], row["required"]) == ("bundle.nonce", "fail", True)
    assert row["clause"] and row["remedy"]


def test_what_to_do_depends_on_how_a_check_ended() -> None:
    made = verdict(sheet({Check.NONCE, Check.DEVICES, Check.CPU_TEE}, NONCE=False, DEVICES=None))
    remedies = {row["check"]: row["remedy"] for row in made.to_dict()["results"]}
    assert remedies["bundle.nonce"] == Check.NONCE.remedy
    assert remedies["bundle.devices"].startswith("supply what is missing")
    assert remedies["bundle.cpu-tee"].startswith("see to the checks before it")
