"""`cloister collateral`: from evidence to a bundle, and from the bundle to a verdict without a network."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from attestation import Collateral, Kind, MalformedEvidence, Outcome
from attestation import tdx as tdx_tee
from attestation.collateral_store import Item, Store, read_bundle, write_bundle
from attestation.fetch import Service
from attestation.snp import SnpCheck, SnpReport
from cloister.cli.app import app
from tests.shared import shared

from . import snp_cases, tdx_cases
from .collateral_server import Vendor, running, serve_amd, serve_intel

TDX_AT, SNP_AT = "2025-06-25T00:00:00Z", "2026-03-01T00:00:00Z"
SNP = "milan-v3-vcek-reissued"
RULES = tdx_cases.tdx_rules(allow_any_service_td=True, allow_any_config_ids=True)


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    found = Vendor()
    serve_intel(found, "2025-06_b0c06f000000_tdx", "root_ca_crl_2025-03-20")
    folder = shared("evidence", "snp", SNP)
    chip = SnpReport.from_bytes((folder / "report.bin").read_bytes()).chip_id.hex()
    serve_amd(found, "Milan", (folder / "vcek.pem").read_bytes(), chip)
    with running(found):
        yield found


@pytest.fixture
def quote() -> str:
    return str(shared("evidence", "tdx", "v4-uptodate", "quote.bin"))


@pytest.fixture
def report() -> str:
    return str(shared("evidence", "snp", SNP, "report.bin"))


def run(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(app, ["collateral", *map(str, words)])
    assert done.exit_code == code, done.output
    return done


def fetch(vendor: Vendor, store: Path, *words: object, code: int = 0) -> Result:
    mirrors = [f"--service={service}={vendor.url}" for service in Service]
    return run("fetch", *words, "--store", store, *mirrors, code=code)


def test_a_tdx_quote_is_judged_offline_by_what_was_fetched_exported_and_imported(
    vendor: Vendor, quote: str, tmp_path: Path
) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "bundle.json"
    done = fetch(vendor, here, quote, "--at", TDX_AT)
    assert done.stdout.count("fetched") == 4
    run("export", file, "--store", here, "--at", TDX_AT)
    run("import", file, "--store", there)
    now = datetime.fromisoformat(TDX_AT)
    case = tdx_cases.load("tdx/v4-uptodate")
    for found in (read_bundle(file.read_bytes()), Store(there).collateral(now)):
        context = tdx_cases.context(RULES, found, now)
        sheet = tdx_tee.appraise(case.quote, context, subject="cpu0", report_data=None)
        assert tdx_cases.verdict(sheet, now).accepted
        assert sheet.claims["tcb"]["converged_tcb_status"] == "UpToDate"
    context = tdx_cases.context(RULES, Collateral(), now)
    sheet = tdx_tee.appraise(case.quote, context, subject="cpu0", report_data=None)
    assert not tdx_cases.verdict(sheet, now).accepted


def test_an_snp_report_is_judged_offline_by_what_was_fetched_exported_and_imported(
    vendor: Vendor, report: str, tmp_path: Path
) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "bundle.json"
    assert fetch(vendor, here, report, "--at", SNP_AT).stdout.count("fetched") == 3
    run("export", file, report, "--store", here, "--at", SNP_AT)
    run("import", file, "--store", there)
    now = datetime.fromisoformat(SNP_AT)
    found = Store(there).collateral(now)
    bundled = read_bundle(file.read_bytes())
    assert all(set(found.of(kind)) == set(bundled.of(kind)) for kind in Kind)
    case = snp_cases.load_case(SNP)
    rules = snp_cases.policy(case.roots, **(snp_cases.LENIENT | {"allow_missing_crl": False}))
    sheet, verdict = snp_cases.verify(
        case.report, found.of(Kind.AMD_CERTIFICATE), rules, now, crls=found.of(Kind.AMD_CRL)
    )
    assert verdict.accepted, snp_cases.blocking(verdict)
    assert snp_cases.outcome(sheet, SnpCheck.CRL) is Outcome.PASS
    _, without = snp_cases.verify(case.report, (), rules, now)
    assert not without.accepted


def test_what_is_kept_and_fresh_is_not_asked_for_again(vendor: Vendor, quote: str, tmp_path: Path) -> None:
    fetch(vendor, tmp_path, quote, "--at", TDX_AT)
    assert len(vendor.asked) == 4
    done = fetch(vendor, tmp_path, quote, "--at", TDX_AT)
    assert (len(vendor.asked), done.stdout.count("kept")) == (4, 4)
    fetch(vendor, tmp_path, quote, "--at", TDX_AT, "--refresh")
    assert len(vendor.asked) == 8


def test_a_stale_vendor_is_exit_code_20_and_the_rest_is_kept(
    vendor: Vendor, quote: str, tmp_path: Path
) -> None:
    done = fetch(vendor, tmp_path, quote, "--at", "2025-08-01T00:00:00Z", code=20)
    assert done.stderr.count("stale") == 3
    assert "127.0.0.1" in done.stderr
    assert [entry.item.kind for entry in Store(tmp_path).entries()] == [Kind.INTEL_ROOT_CRL]


def test_list_shows_dates_and_damage(vendor: Vendor, quote: str, tmp_path: Path) -> None:
    fetch(vendor, tmp_path, quote, "--at", TDX_AT)
    fresh = run("list", "--store", tmp_path, "--at", TDX_AT)
    assert fresh.stdout.count("fresh ") == 6
    assert "TDX b0c06f000000" in fresh.stdout
    later = run("list", "--store", tmp_path, "--at", "2025-08-01", "--json")
    states = {row["kind"]: row["state"] for row in json.loads(later.stdout)}
    assert states["intel.tcb-info"] == "expired"
    assert states["intel.root-crl"] == "fresh"
    (path,) = (tmp_path / "items" / "intel.tcb-info").iterdir()
    path.write_bytes(b"damaged")
    damaged = run("list", "--store", tmp_path, "--at", TDX_AT)
    assert "damaged" in damaged.stderr
    assert damaged.stdout.count("fresh ") == 5


def test_export_for_evidence_takes_what_it_needs_and_says_what_is_missing(
    vendor: Vendor, quote: str, report: str, tmp_path: Path
) -> None:
    store, file = tmp_path / "store", tmp_path / "bundle.json"
    fetch(vendor, store, quote, "--at", TDX_AT)
    fetch(vendor, store, report, "--at", TDX_AT)
    run("export", file, quote, "--store", store, "--at", TDX_AT)
    assert Kind.AMD_CERTIFICATE not in read_bundle(file.read_bytes()).items
    run("export", file, "--store", store, "--at", TDX_AT)
    assert Kind.AMD_CERTIFICATE in read_bundle(file.read_bytes()).items
    done = run("export", file, quote, "--store", store, "--at", "2025-08-01", code=20)
    assert done.stderr.count("not kept, or not fresh") == 3
    assert list(read_bundle(file.read_bytes()).items) == [Kind.INTEL_ROOT_CRL]


def test_a_pccs_s_answers_are_found_again(vendor: Vendor, quote: str, tmp_path: Path) -> None:
    raw = shared("evidence", "_roots", "intel", "root_ca_crl_2025-03-20.der").read_bytes()
    vendor.serve("/sgx/certification/v4/rootcacrl", raw.hex().encode())
    store = tmp_path / "store"
    run("fetch", quote, "--store", store, "--pccs", vendor.url, "--at", TDX_AT)
    run("export", tmp_path / "bundle.json", quote, "--store", store, "--at", TDX_AT)


def test_a_malformed_bundle_is_refused_whole(tmp_path: Path) -> None:
    good = tdx_cases.load("tdx/v4-uptodate").collateral
    bad = good.merged(Collateral({Kind.AMD_CRL: (b"not a list",)}))
    file = tmp_path / "bundle.json"
    for raw in (write_bundle(bad), b"{}", b""):
        file.write_bytes(raw)
        done = CliRunner().invoke(app, ["collateral", "import", str(file), "--store", str(tmp_path / "s")])
        assert isinstance(done.exception, MalformedEvidence)
    assert list(Store(tmp_path / "s").entries()) == []


def test_key_sets_that_nobody_signed_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    keys = shared("evidence", "_roots", "azure", "maa_sharedweu_jwks.json").read_bytes()
    file, store = tmp_path / "bundle.json", tmp_path / "store"
    file.write_bytes(write_bundle(Collateral({Kind.AZURE_MAA_KEYS: (keys,)})))
    assert "nobody signed it" in run("import", file, "--store", store).stderr
    assert list(Store(store).entries()) == []
    run("import", file, "--store", store, "--allow-keys")
    assert [entry.item for entry in Store(store).entries()] == [Item(Kind.AZURE_MAA_KEYS, keys)]


@pytest.mark.parametrize(
    "words",
    [
        ["fetch", "{quote}", "--service", "amd=https://mirror.example"],
        ["fetch", "{quote}", "--service", "amd-kds=http://mirror.example"],
        ["fetch", "{quote}", "--pccs", "nonsense"],
        ["fetch", "{quote}", "--at", "today"],
        ["fetch", "{quote}", "--product", "Naples"],
        ["fetch", "/no/such/file"],
        ["list", "--store", "{quote}/store", "--at", "x"],
        ["import", "/no/such/file"],
        ["export", "/no/such/folder-of-a-file\0"],
    ],
)
def test_misuse_is_exit_code_2(quote: str, tmp_path: Path, words: list[str]) -> None:
    if "\0" in words[-1]:
        words = ["export", quote + "/file"]
    run(*(word.format(quote=quote) for word in words), "--store", tmp_path, code=2)


def test_evidence_that_is_none_is_malformed(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    done = CliRunner().invoke(app, ["collateral", "fetch", str(tmp_path / "text")])
    assert isinstance(done.exception, MalformedEvidence)


def test_now_is_the_default_clock(tmp_path: Path) -> None:
    Store(tmp_path).put(
        Item(Kind.INTEL_TCB_INFO, tdx_cases.load("tdx/v4-uptodate").collateral.of(Kind.INTEL_TCB_INFO)[0])
    )
    assert datetime.now(UTC).year > 2025 or pytest.skip("the clock is wrong")
    assert "expired" in run("list", "--store", tmp_path).stdout


def test_what_is_no_evidence_is_named_by_its_file(report: str, tmp_path: Path) -> None:
    (tmp_path / "junk.bin").write_bytes(b"junk" * 50)
    done = CliRunner().invoke(app, ["collateral", "fetch", report, str(tmp_path / "junk.bin")])
    assert isinstance(done.exception, MalformedEvidence)
    assert str(done.exception).startswith(f"{tmp_path / 'junk.bin'}: neither a bundle")
