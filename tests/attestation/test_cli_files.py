"""`cloister verify` and `cloister inspect` on files: what they take and say, and that they judge nothing."""

import ast
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

import cloister.cli
from attestation import MalformedEvidence
from attestation.collateral_store import write_bundle
from cloister.cli.app import app
from cloister.cli.files import read_collateral, read_sources, unhex
from tests.enclave.simulation import NONCE, Machine
from tests.evidence_cases import SHARED, Case, cases
from tests.shared import shared

HEAD = 'version = 1\nroots = ["amd", "intel", "nvidia", "azure", "aws"]\nmax_verdict_age = 3600\n'
SNP = (
    '[snp]\nproducts = ["Turin", "Genoa"]\nallow_any_measurement = true\nallow_any_tcb = true\n'
    "allow_any_host_data = true\nallow_any_id_block = true\nallow_smt = true\nallow_missing_crl = true\n"
    "allow_missing_alias_check = true\nallow_provisional_firmware = true\n"
)
TDX = (
    "[tdx]\nminimum_tcb_evaluation_data_number = 15\nallow_any_measurement = true\n"
    "allow_any_report_data = true\nallow_any_service_td = true\nallow_any_config_ids = true\n"
)
NITRO = "[nitro]\nmax_age = 60\nmax_clock_skew = 1\nallow_any_pcrs = true\nallow_missing_nonce = true\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def policy(tmp_path: Path, *sections: str) -> str:
    path = tmp_path / "policy.toml"
    path.write_text(HEAD + "".join(sections))
    return str(path)


def folder(name: str) -> Path:
    return shared("evidence", *name.split("/"))


def test_a_report_with_its_chain_as_files_or_as_a_folder(tmp_path: Path) -> None:
    case, rules = folder("snp/turin-v5-vcek"), policy(tmp_path, SNP)
    signed = (case / "report.bin").read_bytes()[0x50:0x90].hex()
    options = ("--policy", rules, "--received-at", "2026-03-01T00:00:00Z", "--report-data")
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("report.bin", "vcek.pem"):
        (alone / name).write_bytes((case / name).read_bytes())
    files = run("verify", str(case / "report.bin"), str(case / "vcek.pem"), *options, signed)
    assert (files.exit_code, files.stdout.strip().splitlines()[-1]) == (0, "ACCEPTED"), files.output
    assert run("verify", str(alone), *options, signed).exit_code == 0
    assert run("verify", str(alone), *options, "01" * 64).exit_code == 10
    assert run("verify", str(case / "report.bin"), *options, signed).exit_code == 20
    assert run("verify", str(case / "vcek.pem"), *options, signed).exit_code == 10
    assert run("verify", str(alone), "--policy", rules, "--nonce", "00").exit_code == 10


def test_collateral_comes_from_a_folder_or_a_bundle(tmp_path: Path) -> None:
    quote, rules = folder("tdx/v5-uptodate") / "quote.bin", policy(tmp_path, TDX)
    window, intel = folder("_collateral/intel/2026-02_90c06f000000_tdx"), folder("_roots/intel")
    given = tmp_path / "collateral"
    given.mkdir()
    sources = [window / n for n in ("tcb_info.json", "qe_identity.json", "pck_crl.der")]
    for path in (*sources, intel / "tcb_signing_chain_2025.pem", intel / "root_ca_crl_2025-03-20.der"):
        (given / path.name).write_bytes(path.read_bytes())
    bundle = tmp_path / "collateral.json"
    bundle.write_bytes(write_bundle(read_collateral([given])))
    options = ("--policy", rules, "--received-at", "2026-02-25T00:00:00Z")
    for source in (given, bundle):
        done = run("verify", str(quote), *options, "--collateral", str(source))
        assert done.exit_code == 0, done.output
    assert run("verify", str(quote), *options).exit_code == 20
    assert run("verify", str(quote), str(given), *options).exit_code == 0  # stapled, and signed


def test_keys_beside_a_token_are_not_taken_for_its_issuers(tmp_path: Path) -> None:
    text = (
        "[nras]\ncount = 1\nmodels = ['GH100']\ntrust_collateral_keys = true\nallow_any_driver = true\n"
        "allow_any_vbios = true\n"
    )
    case, rules = folder("nvidia-nras/v3-single-h100"), policy(tmp_path, text)
    nonce = json.loads((case / "case.json").read_text())["inputs"]["expected_nonce"]
    options = ("--policy", rules, "--nonce", nonce, "--received-at", "2026-06-29T02:10:00Z")
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "keys").write_bytes((case / "jwks.json").read_bytes())
    response = str(case / "nras_response.json")
    assert run("verify", response, *options, "--collateral", str(keys)).exit_code == 0
    assert run("verify", response, str(case / "jwks.json"), *options).exit_code == 20


def test_a_document_and_the_times_around_it(tmp_path: Path) -> None:
    document, rules = folder("aws-nitro/dstack-2025") / "attestation.cbor", policy(tmp_path, NITRO)
    now = ("--received-at", "2025-12-25T16:04:30Z")
    assert run("verify", str(document), "--policy", rules, *now).exit_code == 0
    assert run("verify", str(document), "--policy", rules).exit_code == 10
    late = (*now, "--nonce-made-at", "2025-12-25T16:00:00Z")
    done = run("verify", str(document), "--policy", rules, *late)
    assert (done.exit_code, "evidence.freshness" in done.stdout) == (10, True)
    made = run("verify", str(document), "--policy", rules, *now, "--json")
    assert json.loads(made.stdout)["claims"]["cpu0"]["digest"] == "SHA384"


def test_a_bundle_from_a_file(tmp_path: Path) -> None:
    bundle = tmp_path / "evidence.json"
    bundle.write_bytes(Machine().bundle().to_json())
    wrong = run("verify", str(bundle), "--policy", policy(tmp_path, SNP), "--nonce", NONCE.hex())
    assert wrong.exit_code == 10
    assert "bundle.workload" not in wrong.stdout and "workload.software" in wrong.stdout


def test_what_goes_alone_with_a_url(tmp_path: Path) -> None:
    for more in (["http://127.0.0.1:9", "x"], ["http://127.0.0.1:9", "--nonce", "00"]):
        done = run("verify", *more, "--policy", policy(tmp_path, SNP))
        assert (done.exit_code, "goes alone" in done.stderr) == (2, True)


def test_files_that_cannot_be_read_or_are_nothing_known(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"\0\1\2")
    for command in (["inspect"], ["verify", "--policy", policy(tmp_path, SNP)]):
        done = run(*command, str(tmp_path / "missing"))
        assert (done.exit_code, "missing" in done.stderr) == (2, True)
        done = run(*command, str(tmp_path / "noise"))
        assert isinstance(done.exception, MalformedEvidence)
        assert "noise" in str(done.exception)
    with pytest.raises(typer.BadParameter, match="--nonce"):
        unhex("nonce", "xyz")
    assert unhex("nonce", "0x00ff") == b"\0\xff" and unhex("nonce", None) is None


def test_what_is_not_used_is_named(tmp_path: Path) -> None:
    case = folder("tdx/v4-dstack-eventlog")
    files = [str(case / name) for name in ("quote.bin", "event_log.json", "vm_config.json")]
    done = run("verify", *files, "--policy", policy(tmp_path, TDX))
    assert "not used" in done.stderr and "vm_config.json" in done.stderr


def test_a_token_can_be_spelled_out() -> None:
    token = (folder("azure-maa/windows-cvm-2023") / "token.jwt").read_text().strip()
    assert read_sources([token]) == {"token": token.encode()}
    assert "x-ms-attestation-type" in run("inspect", token).stdout


@pytest.mark.parametrize("case", cases(SHARED) if SHARED.is_dir() else [], ids=lambda case: case.name)
def test_inspect_explains_every_recorded_case_without_judging(case: Case) -> None:
    paths = [str(case.folder / name) for name in case.files]
    done = run("inspect", *paths)
    if case.name == "snp/fail-truncated":
        assert isinstance(done.exception, MalformedEvidence)
        return
    assert done.exit_code == 0, done.output
    assert "Nothing was verified" in done.stdout.strip().splitlines()[-1]
    table = json.loads(run("inspect", "--json", *paths).stdout)
    assert set(table) == set(paths)
    assert all(item["fields"] or item["kind"] == "text" for item in table.values())


def test_inspect_prints_no_control_codes(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(json.dumps({"a": "\x1b[31mred\x1b[0m"}))
    assert "\x1b[31mred" not in run("inspect", str(tmp_path / "x")).stdout


FORBIDDEN = {"cryptography", "hashlib", "hmac", "jwt", "ssl", "secrets"}


JUDGING = (
    "asking",
    "collateral",
    "ears",
    "files",
    "inspecting",
    "policies",
    "receipts",
    "render",
    "verifying",
)
"""Commands that judge or show judgements. Those of owners and workers read key files, which is no judging."""


def _imports(path: Path) -> Sequence[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append(node.module.split(".")[0])
    return found


def test_the_command_line_does_no_cryptography_of_its_own() -> None:
    """It reads, calls the library and renders; the library alone judges."""
    folder = Path(cloister.cli.__file__).parent
    assert {name: set(_imports(folder / f"{name}.py")) & FORBIDDEN for name in JUDGING} == {
        name: set() for name in JUDGING
    }
