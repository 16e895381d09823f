"""SGX quotes: the genuine case, and each check of an enclave with its accepting and rejecting side."""

from typing import Any

import pytest

from attestation import MalformedEvidence, sgx
from attestation.dcap.checks import DcapCheck
from attestation.dcap.enclave import EnclaveReport
from attestation.dcap.quote import BodyType
from attestation.sgx import SgxCheck
from attestation.verdict import Sheet

from . import tdx_cases as cases
from . import tdx_pki as pki
from .tdx_cases import context, load, outcome, sgx_rules, verdict
from .tdx_machine import Platform, qe_enclave
from .tdx_pki import NOW

CASES = cases.names("sgx")
LEVEL = {"sgxtcbcomponents": [{"svn": svn} for svn in pki.LATEST], "pcesvn": 13}
INFO = pki.tcb_info(
    id="SGX", tcbLevels=[{"tcb": LEVEL, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": "UpToDate"}]
)
MRENCLAVE, MRSIGNER = b"\x01" * 32, b"\x02" * 32


def platform(version: int = 3, **fields: Any) -> Platform:
    """A platform whose quote is an enclave's, changed by `fields` of its report."""
    body = qe_enclave(
        bytes(64), **({"mrsigner": MRSIGNER, "isvprodid": 7, "attributes": b"\x05" + bytes(15)} | fields)
    )
    return Platform(
        info=INFO,
        identity=pki.qe_identity(id="QE"),
        body=body,
        body_type=BodyType.SGX,
        header={"version": version, "tee_type": 0},
    )


def appraise(machine: Platform, bound: bytes | None = None, **keys: Any) -> Sheet:
    surroundings = context(sgx_rules(**keys), machine.collateral(), NOW, machine.roots)
    return sgx.appraise(machine.quote().to_bytes(), surroundings, subject="cpu0", report_data=bound)


@pytest.mark.parametrize("name", CASES)
def test_genuine(name: str) -> None:
    case = load(name)
    sheet = sgx.appraise(case.quote, case.context(sgx_rules()), subject="cpu0", report_data=None)
    found = verdict(sheet, case.now)
    assert found.accepted == (case.expected["verdict"] == "pass")
    assert {str(result.check) for result in found.blocking()} == {"dcap.tcb-status", "dcap.advisories"}
    claims = sheet.claims
    assert {key: claims[key] for key in case.expected["claims"]} == case.expected["claims"]
    assert {key: claims["tcb"][key] for key in case.expected["tcb"]} == case.expected["tcb"]


def test_genuine_under_a_policy_that_lists_its_status() -> None:
    case = load("sgx/v3-config-and-swhardening-needed")
    rules = sgx_rules(
        tcb_statuses=["UpToDate", "ConfigurationAndSWHardeningNeeded"],
        advisories=["INTEL-SA-00289", "INTEL-SA-00615"],
        mrenclaves=[case.expected["claims"]["mrenclave"]],
        allow_any_measurement=None,
    )
    sheet = sgx.appraise(case.quote, case.context(rules), subject="cpu0", report_data=None)
    assert verdict(sheet, case.now).accepted


@pytest.mark.parametrize("version", [3, 4, 5])
def test_every_version_and_every_check(version: int) -> None:
    found = verdict(appraise(platform(version)), NOW)
    assert found.accepted, found.summary()
    assert {result.check for result in found.results} == set(DcapCheck) | set(SgxCheck)


LISTED: dict[str, Any] = {"allow_any_measurement": None, "mrsigners": [MRSIGNER.hex()], "isvprodid": 7}


@pytest.mark.parametrize(
    ("fields", "keys", "check"),
    [
        ({"attributes": b"\x07" + bytes(15)}, {}, "sgx.debug"),
        ({"attributes": b"\x04" + bytes(15)}, {"allow_debug": True}, "sgx.debug"),
        ({}, {"allow_any_measurement": None, "mrenclaves": ["33" * 32]}, "sgx.measurement"),
        ({"mrsigner": bytes(32)}, LISTED, "sgx.measurement"),
        ({"isvprodid": 8}, LISTED, "sgx.measurement"),
        ({"isvsvn": 4}, {"minimum_isvsvn": 5}, "sgx.isvsvn"),
        ({"configid": b"\x01" * 64}, {}, "sgx.config"),
        ({}, {"allow_any_report_data": None}, "sgx.report-data"),
        ({}, {"allow_any_report_data": None, "report_data": ["11" * 64]}, "sgx.report-data"),
        ({}, {"bound": b"\x01" * 64}, "sgx.report-data"),
    ],
)
def test_rejected_for_one_reason(fields: dict[str, Any], keys: dict[str, Any], check: str) -> None:
    found = verdict(appraise(platform(**fields), **keys), NOW)
    assert {str(result.check) for result in found.blocking()} == {check}


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        ({"attributes": b"\x07" + bytes(15)}, {"allow_debug": True}),
        ({}, LISTED),
        ({}, {"allow_any_measurement": None, "mrenclaves": [MRENCLAVE.hex()]}),
        ({"isvsvn": 5}, {"minimum_isvsvn": 5}),
        ({"configid": b"\x01" * 64}, {"configids": ["01" * 64]}),
        ({}, {"allow_any_report_data": None, "report_data": ["00" * 64]}),
        ({}, {"allow_any_report_data": None, "bound": bytes(64)}),
    ],
)
def test_accepted(fields: dict[str, Any], keys: dict[str, Any]) -> None:
    found = verdict(appraise(platform(**fields), **keys), NOW)
    assert found.accepted, found.summary()


def test_collateral_for_tdx_does_not_serve() -> None:
    machine = platform()
    machine.info, machine.identity = pki.tcb_info(), pki.qe_identity()
    sheet = appraise(machine)
    assert outcome(sheet, "dcap.tcb-info-match") == outcome(sheet, "dcap.qe-identity-signature") == "fail"


def test_a_tdx_quote_is_not_an_sgx_quote() -> None:
    case = load("tdx/v4-uptodate")
    with pytest.raises(MalformedEvidence):
        sgx.appraise(case.quote, case.context(sgx_rules()), subject="cpu0", report_data=None)


def test_the_report_of_an_enclave_re_encodes() -> None:
    raw = bytes(range(256)) + bytes(128)
    assert EnclaveReport.from_bytes(raw).to_bytes() == raw
