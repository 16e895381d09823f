"""Linux's report interface, answered with captured reports: what is taken from it, and every way it fails."""

import base64
import errno
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import Bundle, Collateral, Policy, Roots, Verdict, certificates, verify
from attestation.kbs import KbsEvidence, primary_evidence
from attestation.snp import SnpReport
from attestation.tdx import EventLog
from enclave.hardware import NoCollateral
from enclave.tee import tsm
from enclave.tee.gather import gather
from enclave.tee.interface import EvidenceUnavailable
from enclave.tee.tsm import KINDS, MAX_BLOB, Configfs, TsmCpu
from tests.attestation import snp_cases, tdx_cases
from tests.enclave.simulation import MODEL, keyset, workload
from tests.hardware.kernel import KERNELS, LOGGED, SNP, Kernel, logged, snp, tdx
from tests.shared import shared

DATA = bytes(range(64))
NONCE = bytes(range(32))
GENOA = datetime.fromisoformat("2025-12-01T00:00:00Z")
HEAD = "version = 1\nmax_verdict_age = 3600\n"
WORKLOAD = f'[workload]\nsoftware = ["cloister test"]\nmodels = ["{MODEL.hex()}"]\nclocks = ["host"]\n'
SNP_RULES = (
    'roots = ["amd"]\n{}[snp]\nproducts = ["Genoa"]\nallow_any_measurement = true\nallow_any_tcb = true\n'
    "allow_missing_crl = true\nallow_smt = true\n"
)
TDX_RULES = (
    'roots = ["intel"]\n{}[tdx]\nminimum_tcb_evaluation_data_number = 1\nallow_any_measurement = true\n'
)


def cpu(tree: Path, kernel: Kernel, tee: str | None = None) -> TsmCpu:
    name = tee or next(name for name, kind in KINDS.items() if kind.provider == kernel.provider)
    return TsmCpu(name, reports=tree, files=kernel)


def refusal(tree: Path, kernel: Kernel, tee: str | None = None) -> str:
    with pytest.raises(EvidenceUnavailable) as refused:
        cpu(tree, kernel, tee).report(DATA)
    assert list(tree.iterdir()) == []
    return str(refused.value)


def test_an_snp_report_comes_with_the_certificates_of_the_host_as_der(tmp_path: Path) -> None:
    kernel = snp()
    evidence = cpu(tmp_path, kernel).report(DATA)
    assert kernel.asked == [DATA]
    assert evidence.tee == "sev-snp" and evidence.report == kernel.report
    named = {certificates.load(der).name for der in evidence.endorsements}
    assert named == {"SEV-VCEK", "SEV-Genoa", "ARK-Genoa"}
    assert all(der[:1] == b"\x30" for der in evidence.endorsements)


def test_a_tdx_quote_needs_no_certificates(tmp_path: Path) -> None:
    kernel = tdx()
    evidence = cpu(tmp_path, kernel).report(DATA)
    assert evidence.tee == "tdx" and evidence.report == kernel.report and evidence.endorsements == ()


def test_every_report_has_a_request_of_its_own_that_is_taken_back(tmp_path: Path) -> None:
    kernel = snp()
    machine = cpu(tmp_path, kernel)
    machine.report(DATA)
    machine.report(DATA)
    assert len(kernel.made) == len(set(kernel.made)) == 3  # the first asks for the provider alone
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("added", [b"", None])
def test_without_a_certificate_table_the_verifier_is_left_to_fetch(
    tmp_path: Path, added: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    machine = cpu(tmp_path, snp(added=added))
    with caplog.at_level("INFO"):
        assert machine.report(DATA).endorsements == machine.report(DATA).endorsements == ()
    assert caplog.text.count("cloister collateral fetch") == 1


def judged(made: Bundle, rules: str, at: datetime, roots: Roots, extra: Collateral) -> Verdict:
    policy = Policy.from_toml(HEAD + rules.format("") + WORKLOAD).with_roots(roots)
    received = Bundle.from_json(made.to_json())
    return verify(received, extra, policy, nonce=NONCE, now=at, nonce_age=timedelta(seconds=1))


def bundle(machine: TsmCpu, at: datetime) -> Bundle:
    return gather(NONCE, keyset(at), None, workload(), cpu=machine, collateral=NoCollateral())


def blocking(verdict: Verdict) -> set[str]:
    return {f"{each.subject} {each.check}" for each in verdict.blocking()}


def test_a_bundle_with_a_genuine_snp_report_fails_only_on_what_it_was_asked(tmp_path: Path) -> None:
    made = bundle(cpu(tmp_path, snp()), GENOA)
    roots = snp_cases.load_case(SNP.partition("/")[2]).roots
    assert blocking(judged(made, SNP_RULES, GENOA, roots, Collateral())) == {"cpu0 snp.report-data"}


def test_a_bundle_with_a_genuine_tdx_quote_fails_only_on_what_it_was_asked(tmp_path: Path) -> None:
    case = tdx_cases.load("tdx/v4-uptodate")
    context = case.context(tdx_cases.tdx_rules())
    made = bundle(cpu(tmp_path, tdx()), context.now)
    verdict = judged(made, TDX_RULES, context.now, context.policy.roots, context.collateral)
    assert blocking(verdict) == {"cpu0 tdx.report-data"}


def test_without_the_hosts_certificates_it_fails_on_the_chain_too(tmp_path: Path) -> None:
    made = bundle(cpu(tmp_path, snp(added=b"")), GENOA)
    roots = snp_cases.load_case(SNP.partition("/")[2]).roots
    assert len(blocking(judged(made, SNP_RULES, GENOA, roots, Collateral()))) > 1


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        ("entry", errno.ENXIO, "no driver provides reports"),
        ("entry", errno.EACCES, "as root"),
        ("entry", errno.EPERM, "as root"),
        ("provider", errno.EIO, "failed to sign"),
        ("inblob", errno.EBUSY, "another request"),
        ("inblob", errno.EINVAL, "update the guest's kernel"),
        ("outblob", errno.EBUSY, "another request"),
        ("outblob", errno.EIO, "quote generation service"),
        ("outblob", errno.ETIMEDOUT, "did not answer in time"),
        ("outblob", errno.EFBIG, "larger than this kernel"),
        ("outblob", errno.EAGAIN, "changed twice"),
        ("auxblob", errno.EIO, "failed to sign"),
        ("generation", errno.ENODATA, "kernel log"),
    ],
)
@pytest.mark.parametrize("tee", KERNELS)
def test_every_failure_of_the_kernel_has_a_reason_and_a_remedy(
    tmp_path: Path, tee: str, place: str, code: int, said: str
) -> None:
    message = refusal(tmp_path, KERNELS[tee](fails={place: code}))
    assert said in message and (code == errno.EAGAIN or tee in message)


def test_a_machine_without_the_interface_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(EvidenceUnavailable, match=r"Linux 6\.7 or later.*modprobe.*mount -t configfs"):
        TsmCpu("sev-snp", reports=tmp_path / "none")


def test_the_other_tees_guest_is_told_which_option_fits(tmp_path: Path) -> None:
    assert "--tee tdx" in refusal(tmp_path, tdx(), "sev-snp")
    assert "--tee sev-snp" in refusal(tmp_path, snp(), "tdx")


def test_a_provider_that_is_not_known_is_refused(tmp_path: Path) -> None:
    kernel = snp()
    kernel.provider = "arm_cca_guest"
    assert "'arm_cca_guest'" in refusal(tmp_path, kernel, "sev-snp")


def test_a_request_that_somebody_disturbed_once_is_asked_again(tmp_path: Path) -> None:
    kernel = snp(disturbed=1)
    assert cpu(tmp_path, kernel).report(DATA).report == kernel.report
    assert kernel.asked == [DATA, DATA]


def test_a_request_that_somebody_keeps_disturbing_is_given_up(tmp_path: Path) -> None:
    kernel = snp(disturbed=2)
    assert "changed twice" in refusal(tmp_path, kernel)
    assert len(kernel.asked) == 2


@pytest.mark.parametrize("count", ["", "-1", "seven", "9" * 30])
def test_a_generation_that_is_no_number_is_refused(tmp_path: Path, count: str) -> None:
    assert "writes" in refusal(tmp_path, snp(generation=count or " "))


@pytest.mark.parametrize("floor", range(4))
def test_a_report_is_of_the_most_privileged_level_that_may_be_asked_for(
    tmp_path: Path, floor: int, caplog: pytest.LogCaptureFixture
) -> None:
    kernel = snp(floor=str(floor))
    with caplog.at_level("INFO"):
        machine = cpu(tmp_path, kernel)
    assert (f"vmpls = [{floor}]" in caplog.text) is (floor > 0)  # 0 is what a policy takes anyway
    made = bundle(machine, GENOA)
    assert SnpReport.from_bytes(made.cpu.report).vmpl == floor and kernel.levels == [floor]
    roots = snp_cases.load_case(SNP.partition("/")[2]).roots
    refused = "cpu0 snp.vmpl" in blocking(judged(made, SNP_RULES, GENOA, roots, Collateral()))
    assert refused is (floor > 0)
    named = SNP_RULES + f"vmpls = [{floor}]\n"
    assert "cpu0 snp.vmpl" not in blocking(judged(made, named, GENOA, roots, Collateral()))


@pytest.mark.parametrize("floor", ["4", "-1", "two", "0x1", "1 1"])
def test_a_privilege_level_that_there_is_not_is_refused(tmp_path: Path, floor: str) -> None:
    assert "not 0 to 3" in refusal(tmp_path, snp(floor=floor))


def test_a_driver_that_takes_no_privilege_level_is_refused_with_a_remedy(tmp_path: Path) -> None:
    kernel = snp(floor="2", fails={"privlevel": errno.EINVAL})
    assert "update the guest's kernel" in refusal(tmp_path, kernel)


def test_a_request_with_a_level_that_somebody_disturbed_once_is_asked_again(tmp_path: Path) -> None:
    kernel = snp(floor="1", disturbed=1)
    cpu(tmp_path, kernel).report(DATA)
    assert kernel.asked == [DATA, DATA] and kernel.levels == [1, 1]


@pytest.mark.parametrize("size", [0, 1183, 1185])
def test_a_report_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    kernel = snp()
    kernel.report = (kernel.report + b"\0")[:size]
    assert f"has 1184 bytes, this one {size}" in refusal(tmp_path, kernel)


@pytest.mark.parametrize("size", [0, 47, 48, 600, 1200])
def test_a_quote_that_is_cut_short_is_refused(tmp_path: Path, size: int) -> None:
    kernel = tdx()
    kernel.report = kernel.report[:size]
    assert "no TDX quote" in refusal(tmp_path, kernel)


def test_a_quote_of_an_sgx_enclave_is_refused(tmp_path: Path) -> None:
    kernel = tdx()
    kernel.report = next(shared("evidence", "sgx").glob("v3-*/*.bin")).read_bytes()
    assert "not a TDX guest's" in refusal(tmp_path, kernel)


def test_a_blob_without_end_is_refused(tmp_path: Path) -> None:
    assert "larger than this kernel" in refusal(tmp_path, snp(added=bytes(MAX_BLOB + 1)))


@given(st.binary(min_size=1, max_size=200))
def test_a_table_that_does_not_parse_is_the_hosts_fault_and_nothing_else_escapes(added: bytes) -> None:
    try:
        evidence = KINDS["sev-snp"].read(bytes(1184), added)
    except EvidenceUnavailable as error:
        assert "certificate table" in str(error)
    else:
        assert evidence.endorsements == ()


def test_more_certificates_than_a_bundle_takes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tsm, "MAX_ENDORSEMENTS", 2)
    assert "has 3 certificates" in refusal(tmp_path, snp())


@pytest.mark.parametrize("size", [0, 63, 65])
def test_only_64_bytes_are_signed(tmp_path: Path, size: int) -> None:
    kernel = snp()
    with pytest.raises(ValueError, match="64 bytes"):
        cpu(tmp_path, kernel).report(bytes(size))
    assert kernel.asked == []


def test_another_tee_has_no_such_interface(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sev-snp, tdx"):
        TsmCpu("nitro", reports=tmp_path)


def test_files_are_read_in_pieces_and_written_at_once(tmp_path: Path) -> None:
    files: Any = Configfs()
    file = tmp_path / "blob"
    file.write_bytes(b"")
    content = bytes(range(256)) * 1000
    files.write(file, content)
    assert files.read(file) == content


def test_the_event_log_of_a_tdx_guest_goes_with_its_quote_and_replays(tmp_path: Path) -> None:
    (tree := tmp_path / "tree").mkdir()
    kernel, log = logged(tmp_path)
    machine = TsmCpu("tdx", reports=tree, event_log=log, files=kernel)
    evidence = machine.report(DATA)
    assert evidence.endorsements == (log.read_bytes(),)
    context = tdx_cases.load(LOGGED).context(tdx_cases.tdx_rules())
    now, roots, extra = context.now, context.policy.roots, context.collateral
    made = bundle(machine, now)
    assert Bundle.from_json(made.to_json()) == made
    rules = TDX_RULES + "require_event_log = true\n"
    assert blocking(judged(made, rules, now, roots, extra)) == {"cpu0 tdx.report-data"}
    log.write_bytes(altered(log.read_bytes()))
    assert blocking(judged(bundle(machine, now), rules, now, roots, extra)) == {
        "cpu0 tdx.report-data",
        "cpu0 tdx.event-log",
    }


def altered(log: bytes) -> bytes:
    """One digest changed, the log still well formed."""
    digest = EventLog.from_bytes(log).events[-1].digest
    return log.replace(digest, bytes(48))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "event log"),
        (b"\0" * 65536, "event log"),
        (b"\xff" * (MAX_BLOB + 1), "File too large"),
    ],
)
def test_without_an_event_log_that_parses_none_is_sent_and_a_policy_can_demand_one(
    tmp_path: Path, content: bytes | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tree := tmp_path / "tree").mkdir()
    kernel, log = logged(tmp_path)
    log.unlink()
    if content is not None:
        log.write_bytes(content)
    machine = TsmCpu("tdx", reports=tree, event_log=log, files=kernel)
    with caplog.at_level("INFO"):
        assert machine.report(DATA).endorsements == machine.report(DATA).endorsements == ()
    (line,) = [line for line in caplog.messages if "no event log is sent" in line]
    assert said in line
    context = tdx_cases.load(LOGGED).context(tdx_cases.tdx_rules())
    now, roots, extra = context.now, context.policy.roots, context.collateral
    rules = TDX_RULES + "require_event_log = true\n"
    found = blocking(judged(bundle(machine, now), rules, now, roots, extra))
    assert found == {"cpu0 tdx.report-data", "cpu0 tdx.event-log"}


def test_a_broker_gets_the_event_log_where_its_protocol_has_it(tmp_path: Path) -> None:
    (tree := tmp_path / "tree").mkdir()
    kernel, log = logged(tmp_path)
    evidence = TsmCpu("tdx", reports=tree, event_log=log, files=kernel).report(DATA)
    sent = primary_evidence(evidence)
    assert base64.b64decode(sent["cc_eventlog"]) == log.read_bytes()
    assert KbsEvidence(tee="tdx", runtime={}, primary=sent).cpu() == evidence


def test_snp_guests_have_none(tmp_path: Path) -> None:
    _, log = logged(tmp_path)
    (tree := tmp_path / "tree").mkdir()
    evidence = TsmCpu("sev-snp", reports=tree, event_log=log, files=snp()).report(DATA)
    assert log.read_bytes() not in evidence.endorsements
