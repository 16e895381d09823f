"""Recorded evidence of real hardware: every verdict and claim as published, whatever its name."""

import json
import shutil
import ssl
import tomllib
from pathlib import Path

import pytest

from tests import evidence_cases
from tests.evidence_cases import Case, cases, policy_for
from tests.evidence_score import Score, main, score
from tests.shared import shared

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "evidence"
CASES = cases(FOLDER) if FOLDER.is_dir() else []
TABLE = tomllib.loads(evidence_cases.POLICIES.read_text())


def test_the_evidence_is_there() -> None:
    shared("evidence")
    assert len(CASES) >= 72


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict_and_claims_are_as_published(case: Case) -> None:
    found = score(case)
    assert found.agrees, f"{found.word}: {found.why}"
    if found.verdict is not None:
        assert found.differing() == []


def test_the_command_prints_a_line_a_case_and_the_totals(capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared("evidence")
    assert main([str(folder), "--claims"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CASES) + 1
    assert lines[-1].startswith(f"{len(CASES)} of {len(CASES)} verdicts as expected")
    word = {line.split()[1]: line.split()[4] for line in lines[:-1]}
    assert word["snp/fail-truncated"] == "malformed"
    assert word["tdx/fail-stale-collateral"] == "unevaluable"
    assert word["tdx/v4-debug"] == "rejected"


def test_names_and_expectations_change_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Renamed, each file too, and with the opposite expected: the same words, and the command fails."""
    shared("evidence")
    honest = {index: score(case) for index, case in enumerate(CASES)}
    for index, case in enumerate(CASES):
        folder = tmp_path / f"{index:03}"
        folder.mkdir()
        fields = json.loads(json.dumps(dict(case.fields)))
        names = {name: f"{index}-{i:02}" for i, name in enumerate(sorted(fields["files"]))}
        for name, other in names.items():
            shutil.copyfile(case.folder / name, folder / other)
        opposite = {"pass": "fail", "fail": "pass"}[fields["expected"]["verdict"]]
        fields["files"] = {names[name]: value for name, value in fields["files"].items()}
        fields |= {"id": f"case-{index:03}", "title": "", "source": ""}
        fields["expected"] = {"verdict": opposite, "at_time": fields["expected"]["at_time"]}
        (folder / "case.json").write_text(json.dumps(fields))
    renamed = {int(case.folder.name): score(case) for case in cases(tmp_path)}
    assert {i: one.word for i, one in renamed.items()} == {i: one.word for i, one in honest.items()}
    assert not any(one.agrees for one in renamed.values())
    assert main([str(tmp_path)]) == 1
    assert f"0 of {len(CASES)} verdicts" in capsys.readouterr().out


def test_policies_name_no_case_and_no_permission_to_be_untrustworthy() -> None:
    assert set(TABLE["policy"][0]) <= {"tee", "supplies", "use", "then"}
    assert {key for entry in TABLE["policy"] for key in entry} == {"tee", "supplies", "use", "then"}
    text = evidence_cases.POLICIES.read_text()
    for forbidden in ("allow_debug", "allow_migrate", "OutOfDate", "tcb_statuses", "collateral_grace"):
        assert forbidden not in text


def test_the_entry_that_names_most_of_what_is_supplied_is_taken() -> None:
    numbers = {"gpus": "3", "switches": "1", "devices": "1", "issuer": "https://x"}
    plain = policy_for("nvidia-gpu", [], numbers).nvidia_gpu
    both = policy_for("nvidia-gpu", ["manifest", "manifests", "nonce"], numbers).nvidia_gpu
    assert plain is not None and both is not None
    assert (plain.count, plain.require_rims, both.require_rims) == (3, False, True)
    with pytest.raises(LookupError):
        policy_for("unheard-of", [], numbers)


def by_itself(name: str, folder: Path, **changes: object) -> Score:
    """A copy of a case in a folder of its own, with other fields."""
    shared("evidence")
    (case,) = (one for one in CASES if one.name == name)
    shutil.copytree(case.folder, folder, dirs_exist_ok=True)
    (folder / "case.json").chmod(0o600)
    (folder / "case.json").write_text(json.dumps({**case.fields, **changes}))
    (found,) = map(score, cases(folder))
    return found


def test_evidence_of_another_kind_or_part_of_it_is_not_what_the_case_is_about(tmp_path: Path) -> None:
    aci = "azure-aci/milan-2023-uvm-svn22"
    assert by_itself(aci, tmp_path / "1").word == "accepted"
    found = by_itself(aci, tmp_path / "2", files={"report.bin": {}, "vcek.pem": {}})
    assert (found.word, found.why) == ("malformed", "SnpEvidence where evidence of azure-aci belongs")
    rims = {"driver_rim.swidtag": {}, "vbios_rim.swidtag": {}}
    assert by_itself("nvidia-gpu/h100-full-rim-match", tmp_path / "3", files=rims).word == "malformed"


def test_a_document_without_devices_is_still_judged_as_one(tmp_path: Path) -> None:
    name = "composite/dstack-tdx-8x-h200"
    names = ("quote.bin", "event_log.json", "tcb_info.json", "qe_identity.json", "pck_crl.der")
    files = dict.fromkeys(names)
    assert by_itself(name, tmp_path / "1", files=files).word == "accepted"
    other = {"expected_nonce": "00" * 32}
    assert by_itself(name, tmp_path / "2", files=files, inputs=other).word == "rejected"
    assert by_itself(name, tmp_path / "3", files=files, inputs={}).word == "unevaluable"


def test_roots_of_the_case_itself_whatever_their_form_and_name(tmp_path: Path) -> None:
    pem = {
        name: shared("evidence", "_roots", "amd", f"milan_{name}.pem").read_text() for name in ("ark", "ask")
    }
    (tmp_path / "chain.pem").write_text(pem["ask"] + pem["ark"])
    (tmp_path / "x.der").write_bytes(ssl.PEM_cert_to_DER_cert(pem["ark"].strip()))
    (tmp_path / "y.der").write_bytes(ssl.PEM_cert_to_DER_cert(pem["ask"].strip()))
    for roots in (["chain.pem"], ["x.der", "y.der"]):
        assert by_itself("snp/milan-v2-vcek", tmp_path, roots=roots).word == "accepted"
    assert by_itself("snp/milan-v2-vcek", tmp_path, roots=["y.der"]).word == "rejected"


def test_an_attestation_key_without_roots_of_the_case_is_judged_by_the_packages(tmp_path: Path) -> None:
    assert by_itself("tpm/gce-ak-chain", tmp_path, roots=[]).word == "accepted"


def test_clocks_without_an_offset_are_in_utc_and_without_a_clock_it_is_now(tmp_path: Path) -> None:
    for index, clock in enumerate(("2024-06-01T00:00:00", "2024-06-01")):
        expected = {"verdict": "pass", "at_time": clock}
        assert by_itself("snp/milan-v2-vcek", tmp_path / str(index), expected=expected).agrees
    found = by_itself("nvidia-nras/v3-single-h100", tmp_path / "now", expected={"verdict": "fail"})
    assert found.agrees and "token nras.validity" in found.why


def test_other_inputs_are_compared_with_claims_or_named(tmp_path: Path) -> None:
    name = "snp/milan-v2-vcek"
    (case,) = (one for one in CASES if one.name == name)
    measurement = case.fields["expected"]["claims"]["measurement"]
    right = by_itself(name, tmp_path / "1", inputs={"expected_measurement": "0x" + measurement.upper()})
    wrong = by_itself(name, tmp_path / "2", inputs={"expected_measurement_hex": "00" * 48})
    unread = by_itself(name, tmp_path / "3", inputs={"expected_weather": "fair"})
    assert [one.word for one in (right, wrong, unread)] == ["accepted", "rejected", "accepted"]
    assert wrong.why.endswith("expected_measurement_hex")
    assert unread.why.endswith("not compared: expected_weather")


def test_a_folder_without_cases_is_no_success(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 1


def test_a_case_that_cannot_be_judged_is_named_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x00")
    fields = {"id": "x", "tee": "unheard-of", "files": {"gone": {}}, "expected": {"verdict": "fail"}}
    (tmp_path / "case.json").write_text(json.dumps(fields))
    (found,) = map(score, cases(tmp_path))
    assert (found.word, found.agrees) == ("error", False)
