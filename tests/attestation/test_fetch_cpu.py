"""AMD's KDS and Intel's PCS: what is asked for evidence, and which answers are taken."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from attestation import CollateralUnavailable, Kind, MalformedEvidence
from attestation.collateral_store import describe
from attestation.fetch import Evidence, Fetched, Patience, Service, Services, fetch, plan, recognise
from attestation.snp import Product, SigningKey, SnpReport
from tests.shared import shared

from . import snp_maker
from .collateral_server import Vendor, running, serve_amd, serve_intel
from .tdx_cases import load

QUICK = Patience(timeout=5, attempts=1)
NOW = datetime(2025, 6, 25, tzinfo=UTC)
WINDOW = "2025-06_b0c06f000000_tdx"


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with running(Vendor()) as found:
        yield found


def evidence(*path: str) -> bytes:
    return shared("evidence", *path).read_bytes()


async def get(vendor: Vendor, *documents: bytes, now: datetime = NOW, **options: Any) -> Fetched:
    services = options.pop("services", vendor.services)
    found = recognise(documents)
    return await fetch(found, now=now, services=services, patience=QUICK, **options)


def targets(*documents: bytes, **options: Any) -> list[str]:
    return [
        f"{request.service} {request.target}" for request in plan(recognise(documents), **options).requests
    ]


def gaps(*documents: bytes, **options: Any) -> str:
    return "\n".join(map(str, plan(recognise(documents), **options).gaps))


# AMD


def test_a_turin_report_asks_with_turin_s_parameters() -> None:
    assert targets(evidence("snp", "turin-v5-vcek", "report.bin")) == [
        "amd-kds /vcek/v1/Turin/cert_chain",
        "amd-kds /vcek/v1/Turin/crl",
        "amd-kds /vcek/v1/Turin/59790fb1c39f35c1?fmcSPL=01&blSPL=01&teeSPL=01&snpSPL=04&ucodeSPL=81",
    ]


def test_a_milan_report_asks_by_its_whole_chip_id() -> None:
    raw = evidence("snp", "milan-v3-vcek-reissued", "report.bin")
    chip = SnpReport.from_bytes(raw).chip_id.hex()
    assert targets(raw)[2] == f"amd-kds /vcek/v1/Milan/{chip}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219"


def test_a_certificate_that_came_along_is_not_asked_for() -> None:
    report, vcek = (evidence("snp", "turin-v5-vcek", name) for name in ("report.bin", "vcek.pem"))
    assert len(targets(report, vcek)) == 2
    other = evidence("snp", "milan-v3-vcek-reissued", "vcek.pem")
    assert len(targets(report, other)) == 3
    table = evidence("snp", "genoa-v3-extended-cert-table", "auxblob_cert_table.bin")
    genoa = evidence("snp", "genoa-v3-extended-cert-table", "report.bin")
    assert len(targets(genoa, table)) == 2


def test_a_vlek_is_not_public_but_its_chain_is() -> None:
    report, vlek = (evidence("snp", "milan-v3-vlek-aws", name) for name in ("report.bin", "vlek.der"))
    assert targets(report) == ["amd-kds /vlek/v1/Milan/cert_chain", "amd-kds /vlek/v1/Milan/crl"]
    assert "provider" in gaps(report)
    assert gaps(report, vlek) == ""


def test_a_report_that_does_not_name_its_line() -> None:
    report, vcek = (evidence("snp", "milan-v2-vcek", name) for name in ("report.bin", "vcek.der"))
    assert targets(report) == []
    assert "--product" in gaps(report)
    assert targets(report, product=Product.MILAN)[0] == "amd-kds /vcek/v1/Milan/cert_chain"
    assert targets(report, vcek) == ["amd-kds /vcek/v1/Milan/cert_chain", "amd-kds /vcek/v1/Milan/crl"]


def test_a_hidden_chip_id_cannot_be_asked_for() -> None:
    raw = snp_maker.line("Genoa").report(chip_id=bytes(64))
    assert len(targets(raw)) == 2
    assert "CHIP_ID" in gaps(raw)


async def test_amd_s_answers_become_collateral(vendor: Vendor) -> None:
    folder = ("snp", "milan-v3-vcek-reissued")
    report = evidence(*folder, "report.bin")
    chip = SnpReport.from_bytes(report).chip_id.hex()
    serve_amd(vendor, "Milan", evidence(*folder, "vcek.pem"), chip)
    made = await get(vendor, report, now=datetime(2026, 3, 1, tzinfo=UTC))
    found = made.require()
    assert [len(found.of(kind)) for kind in (Kind.AMD_CERTIFICATE, Kind.AMD_CRL)] == [3, 1]
    assert all(raw[:1] == b"\x30" for raw in found.of(Kind.AMD_CERTIFICATE) + found.of(Kind.AMD_CRL))
    names = [describe(Kind.AMD_CERTIFICATE, raw).subject for raw in found.of(Kind.AMD_CERTIFICATE)]
    assert names[:2] == ["SEV-Milan", "ARK-Milan"]
    assert chip in names[2]


async def test_wrong_certificates_and_lists_are_refused(vendor: Vendor) -> None:
    report = evidence("snp", "turin-v5-vcek", "report.bin")
    other = evidence("snp", "milan-v3-vcek-reissued", "vcek.pem")
    serve_amd(vendor, "Turin", other, "59790fb1c39f35c1")
    vendor.serve("/vcek/v1/Turin/crl", evidence("_roots", "amd", "genoa_ark_crl.pem"))
    vendor.serve("/vcek/v1/Turin/cert_chain", evidence("_roots", "amd", "milan_ask.pem"))
    made = await get(vendor, report)
    text = "\n".join(map(str, made.failures))
    assert not made.answers
    assert "not the VCEK of this chip" in text
    assert "not ARK-Turin's" in text
    assert "not SEV-Turin and ARK-Turin" in text
    with pytest.raises(CollateralUnavailable, match="Turin/crl"):
        made.require()


@pytest.mark.parametrize("body", [b"", b"\x30", b"<html>", b"-----BEGIN CERTIFICATE-----\nAA==\n"])
async def test_answers_that_do_not_parse_are_refused(vendor: Vendor, body: bytes) -> None:
    raw = evidence("snp", "turin-v5-vcek", "report.bin")
    for request in plan(recognise([raw])).requests:
        vendor.serve(request.path, body)
    made = await get(vendor, raw)
    assert len(made.failures) == 3
    assert all("not what was asked for" in str(each) for each in made.failures)


async def test_an_expired_list_is_stale(vendor: Vendor) -> None:
    folder = ("snp", "milan-v3-vcek-reissued")
    report = evidence(*folder, "report.bin")
    serve_amd(vendor, "Milan", evidence(*folder, "vcek.pem"), SnpReport.from_bytes(report).chip_id.hex())
    made = await get(vendor, report, now=datetime(2027, 1, 1, tzinfo=UTC))
    (failure,) = made.failures
    assert "/vcek/v1/Milan/crl: the answer is stale" in str(failure)
    assert len(made.answers) == 2


# Intel


def test_a_tdx_quote_asks_by_fmspc_and_authority() -> None:
    assert targets(load("tdx/v4-uptodate").quote) == [
        "intel-pcs /tdx/certification/v4/tcb?fmspc=B0C06F000000",
        "intel-pcs /tdx/certification/v4/qe/identity",
        "intel-pcs /sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        "intel-certificates /IntelSGXRootCA.der",
    ]
    assert targets(load("tdx/v4-uptodate").quote, pccs=True)[3] == (
        "intel-certificates /sgx/certification/v4/rootcacrl"
    )


def test_an_sgx_quote_asks_for_sgx() -> None:
    folder = shared("evidence", "sgx")
    raw = next(path for path in sorted(folder.glob("*/quote.bin"))).read_bytes()
    assert targets(raw)[0].startswith("intel-pcs /sgx/certification/v4/tcb?fmspc=")
    assert targets(raw)[1] == "intel-pcs /sgx/certification/v4/qe/identity"


async def test_intel_s_answers_become_collateral(vendor: Vendor) -> None:
    serve_intel(vendor, WINDOW, "root_ca_crl_2025-03-20")
    made = await get(vendor, load("tdx/v4-uptodate").quote)
    found, case = made.require(), load("tdx/v4-uptodate").collateral
    for kind in (Kind.INTEL_TCB_INFO, Kind.INTEL_QE_IDENTITY, Kind.INTEL_PCK_CRL, Kind.INTEL_ROOT_CRL):
        assert found.of(kind) == case.of(kind)
    assert len(found.of(Kind.INTEL_TCB_SIGNING_CHAIN)) == 1
    assert len(found.of(Kind.INTEL_PCK_CRL_CHAIN)) == 1


@pytest.mark.parametrize("form", ["hex", "pem"])
async def test_a_pccs_may_answer_in_other_forms(vendor: Vendor, form: str) -> None:
    serve_intel(vendor, WINDOW, "root_ca_crl_2025-03-20")
    der = evidence("_roots", "intel", "root_ca_crl_2025-03-20.der")
    body = der.hex().encode() + b"\n"
    if form == "pem":
        import base64

        body = b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(der) + b"-----END X509 CRL-----\n"
    vendor.serve("/sgx/certification/v4/rootcacrl", body)
    made = await get(vendor, load("tdx/v4-uptodate").quote, services=Services.at(pccs=vendor.url))
    assert made.require().of(Kind.INTEL_ROOT_CRL) == (der,)


async def test_collateral_of_another_platform_or_enclave_is_refused(vendor: Vendor) -> None:
    serve_intel(vendor, "2025-09_20a06f000000_tdx", "root_ca_crl_2025-03-20")
    sgx = shared("evidence", "_collateral", "intel", "2025-06_00a067110000_sgx")
    vendor.serve("/tdx/certification/v4/qe/identity", (sgx / "qe_identity.json").read_bytes())
    vendor.serve("/sgx/certification/v4/pckcrl", evidence("_roots", "intel", "root_ca_crl_2025-03-20.der"))
    vendor.serve("/IntelSGXRootCA.der", (sgx / "pck_crl.der").read_bytes())
    made = await get(vendor, load("tdx/v4-uptodate").quote)
    text = "\n".join(map(str, made.failures))
    assert not made.answers
    assert "TCB info of TDX 20a06f000000, not TDX b0c06f000000" in text
    assert "identity of QE, not TD_QE" in text
    assert "not that of Intel SGX PCK Platform CA" in text
    assert "not that of Intel SGX Root CA" in text


@pytest.mark.parametrize("header", [None, "", "%zz", "-----BEGIN CERTIFICATE-----", "%00"])
async def test_an_issuer_chain_must_be_there_and_parse(vendor: Vendor, header: str | None) -> None:
    serve_intel(vendor, WINDOW, "root_ca_crl_2025-03-20")
    body = load("tdx/v4-uptodate").collateral.of(Kind.INTEL_TCB_INFO)[0]
    headers = {} if header is None else {"TCB-Info-Issuer-Chain": header}
    vendor.serve("/tdx/certification/v4/tcb", body, headers)
    (failure,) = (await get(vendor, load("tdx/v4-uptodate").quote)).failures
    assert "/tdx/certification/v4/tcb: the answer is not what was asked for" in str(failure)


async def test_stale_and_altered_documents_are_refused(vendor: Vendor) -> None:
    serve_intel(vendor, WINDOW, "root_ca_crl_2025-03-20")
    made = await get(vendor, load("tdx/v4-uptodate").quote, now=datetime(2025, 8, 1, tzinfo=UTC))
    assert sum("stale" in str(each) for each in made.failures) == 3  # the root's list holds for a year
    raw = load("tdx/v4-uptodate").collateral.of(Kind.INTEL_TCB_INFO)[0]
    vendor.serve("/tdx/certification/v4/tcb", raw[:-40])
    assert any(
        "not a signed tcbInfo" in str(each)
        for each in (await get(vendor, load("tdx/v4-uptodate").quote)).failures
    )


def test_a_quote_without_a_chain_is_a_gap() -> None:
    quote = recognise([load("tdx/v4-uptodate").quote]).quotes[0]
    from dataclasses import replace

    for changed in (
        replace(quote, certification_type=1),
        replace(quote, certification_data=b"-----"),
        replace(quote, certification_data=quote.certification_data[3000:]),
    ):
        made = plan(Evidence(quotes=[changed]))
        assert not made.requests
        assert len(made.gaps) == 1


# Recognition


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"text", bytes(1184), bytes(64), b"\x04\x00", b"HCLA", b"\x11\xe0", b"\x30\x00"]
)
def test_what_is_not_evidence_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedEvidence, match="document 1"):
        recognise([raw])


def test_an_hcl_report_holds_an_snp_report() -> None:
    folder = shared("evidence", "azure-snp-vtpm", "milan-v1")
    raw = next(path for path in sorted(folder.iterdir()) if path.read_bytes()[:4] == b"HCLA").read_bytes()
    (report,) = recognise([raw]).snp
    assert report.signer_info.signing_key is SigningKey.VCEK


def test_requests_name_services_and_never_hosts() -> None:
    raw = evidence("snp", "turin-v5-vcek", "report.bin")
    for request in (
        *plan(recognise([raw])).requests,
        *plan(recognise([load("tdx/v4-uptodate").quote])).requests,
    ):
        assert request.service in set(Service)
        assert request.path.startswith("/")
