"""Recognition by content: every recorded file, whatever it is called and however it is wrapped."""

import base64
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestation import (
    DstackDocument,
    GpuEvidence,
    Kind,
    MalformedEvidence,
    SnpEvidence,
    TdxEvidence,
    TpmQuotes,
    recognise,
)
from attestation.explain import explain
from attestation.pieces import Piece, identify
from attestation.vendor_collateral import collateral_in
from tests.attestation.clouds import mutated
from tests.enclave.simulation import Machine
from tests.evidence_cases import cases
from tests.shared import shared

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "evidence"
FILES = sorted(p for p in FOLDER.glob("*/*/*") if p.is_file() and p.name != "case.json")
KINDS = {
    "snp/turin-v5-vcek/report.bin": Piece.SNP_REPORT,
    "snp/turin-v5-vcek/vcek.pem": Piece.CERTIFICATES,
    "snp/milan-v2-vcek/vcek.der": Piece.CERTIFICATES,
    "snp/genoa-v3-extended-cert-table/auxblob_cert_table.bin": Piece.CERTIFICATE_TABLE,
    "tdx/v5-uptodate/quote.bin": Piece.TDX_QUOTE,
    "tdx/v4-gcp-ccel/quote.bin": Piece.TDX_QUOTE,
    "tdx/v4-gcp-ccel/ccel_data.bin.gz": Piece.EVENT_LOG,
    "tdx/v4-gcp-ccel/ccel_table.bin": Piece.OTHER,
    "tdx/v4-dstack-eventlog/event_log.json": Piece.EVENT_LOG,
    "tdx/v4-dstack-eventlog/vm_config.json": Piece.OTHER,
    "sgx/v3-config-and-swhardening-needed/quote.bin": Piece.SGX_QUOTE,
    "azure-snp-vtpm/genoa/hcl_report.bin": Piece.HCL_REPORT,
    "azure-snp-vtpm/genoa/tpm_quote.msg": Piece.TPM_QUOTE,
    "azure-snp-vtpm/genoa/tpm_quote.sig": Piece.TPM_SIGNATURE,
    "azure-snp-vtpm/genoa/pcrs_sha256.json": Piece.PCRS,
    "azure-tdx-vtpm/fail-ak-not-in-runtime-data/ak_pub.pem": Piece.PUBLIC_KEY,
    "azure-aci/milan-2023-uvm-svn22/uvm_endorsements.cose": Piece.UVM,
    "azure-aci/milan-2023-uvm-svn22/security_policy.b64": Piece.TEXT,
    "azure-maa/windows-cvm-2023/token.jwt": Piece.MAA_TOKEN,
    "aws-nitro/evervault-2022/attestation.cbor": Piece.NITRO,
    "tpm/gce-cos85-nonce9009/ak_pub.tpmt": Piece.TPM_PUBLIC,
    "tpm/gce-cos85-nonce9009/quote_sha1.sig_tpmt": Piece.TPM_SIGNATURE,
    "tpm/gce-cos85-nonce9009/event_log.bin": Piece.EVENT_LOG,
    "nvidia-gpu/h100-550/report.bin": Piece.DEVICE_REPORT,
    "nvidia-gpu/multi-4x-h100-ppcie/evidence_list.json": Piece.DEVICE_LIST,
    "composite/dstack-tdx-8x-h200/gpu_evidence.json": Piece.DEVICE_LIST,
    "composite/dstack-tdx-8x-h200/tcb_info.json": Piece.TCB_INFO,
    "composite/dstack-tdx-8x-h200/qe_identity.json": Piece.QE_IDENTITY,
    "composite/dstack-tdx-8x-h200/pck_crl.der": Piece.CRL,
    "composite/snp-genoa-bound-channel/attestation.json": Piece.TINFOIL,
    "nvidia-nras/v3-single-h100/nras_response.json": Piece.NRAS,
    "nvidia-nras/v3-single-h100/jwks.json": Piece.KEY_SET,
    "nvidia-rim/vbios-gh100-74-1c/rim.xml": Piece.RIM,
    "_roots/intel/tcb_signing_chain_2025.pem": Piece.INTEL_CHAIN,
    "_roots/intel/root_ca_crl_2025-03-20.der": Piece.CRL,
    "_roots/amd/genoa_ark_crl.pem": Piece.CRL,
}


def read(name: str) -> bytes:
    return shared("evidence", *name.split("/")).read_bytes()


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_files_are_told_by_their_content(name: str, kind: Piece) -> None:
    raw = read(name)
    assert identify(raw)[0] is kind
    explained = explain(raw)
    assert explained.piece is kind and explained.fields


@pytest.mark.parametrize("name", ["snp/turin-v5-vcek/report.bin", "tdx/v5-uptodate/quote.bin"])
def test_a_wrapping_in_text_makes_no_difference(name: str) -> None:
    raw = read(name)
    for text in (raw.hex().encode(), b"0x" + raw.hex().encode() + b"\n", base64.encodebytes(raw)):
        assert identify(text) == identify(raw)


def test_a_bundle_is_recognised() -> None:
    bundle = Machine().bundle()
    assert recognise({"x": bundle.to_json()}).evidence == bundle
    names = {field.name for field in explain(bundle.to_json()).fields}
    assert {"nonce", "keyset.not_after", "cpu.report.measurement", "device0.request.nonce"} <= names


@pytest.mark.parametrize("raw", [b"", b"\0" * 100, os.urandom(700), b"\x30\x03abc", b"{", b'{"a":1,"a":2}'])
def test_what_is_nothing_known_says_what_was_tried(raw: bytes) -> None:
    with pytest.raises(MalformedEvidence) as caught:
        recognise({"name": raw})
    assert "name" in str(caught.value)


def test_a_token_of_somebody_else_is_no_evidence() -> None:
    part = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=")
    with pytest.raises(MalformedEvidence, match="none of Azure"):
        recognise({"t": b".".join((part, part, b""))})


def test_parts_that_do_not_make_one_piece_of_evidence_are_named() -> None:
    report, quote = read("snp/turin-v5-vcek/report.bin"), read("tdx/v5-uptodate/quote.bin")
    with pytest.raises(MalformedEvidence, match="a: SEV-SNP report, b: TDX quote"):
        recognise({"a": report, "b": quote})
    with pytest.raises(MalformedEvidence, match="2 of SEV-SNP report"):
        recognise({"a": report, "b": report})
    with pytest.raises(MalformedEvidence, match="NVIDIA device report"):
        recognise({"a": read("nvidia-gpu/h100-550/report.bin")})
    with pytest.raises(MalformedEvidence, match="0 files"):
        recognise({})
    message = read("azure-snp-vtpm/genoa/tpm_quote.msg")
    with pytest.raises(MalformedEvidence, match="1 TPM quotes and 0 signatures"):
        recognise({"a": message})
    with pytest.raises(MalformedEvidence, match="without its signature"):
        recognise({"a": message, "b": read("azure-snp-vtpm/genoa/hcl_report.bin")})


def test_names_only_order() -> None:
    folder = "tpm/gce-cos85-nonce9009"
    (case,) = cases(shared("evidence", *folder.split("/")))
    evidence = recognise(case.files).evidence
    assert isinstance(evidence, TpmQuotes) and len(evidence.quotes) == 3
    renamed = {f"{i:02}": raw for i, (_, raw) in enumerate(sorted(case.files.items()))}
    assert recognise(renamed).evidence == evidence


def test_collateral_is_sorted_by_what_it_says() -> None:
    window = shared("evidence", "_collateral", "intel", "2026-02_90c06f000000_tdx")
    roots = shared("evidence", "_roots")
    paths = [
        *window.glob("*.json"),
        *window.glob("*.der"),
        *roots.glob("intel/*.der"),
        *roots.glob("*/*crl.pem"),
    ]
    paths += [roots / "intel/tcb_signing_chain_2025.pem", roots / "azure/maa_sharedweu_jwks.json"]
    found = collateral_in({str(path): path.read_bytes() for path in paths})
    assert {kind: len(items) for kind, items in found.items.items()} == {
        Kind.INTEL_TCB_INFO: 1,
        Kind.INTEL_QE_IDENTITY: 1,
        Kind.INTEL_TCB_SIGNING_CHAIN: 1,
        Kind.INTEL_PCK_CRL_CHAIN: 1,
        Kind.INTEL_PCK_CRL: 1,
        Kind.INTEL_ROOT_CRL: 3,
        Kind.AMD_CRL: 2,
        Kind.AZURE_MAA_KEYS: 1,
    }


def test_dstack_documents_in_json() -> None:
    folder = "composite/dstack-tdx-8x-h200"
    quote, log = read(f"{folder}/quote.bin"), read(f"{folder}/event_log.json").decode()
    payload = read(f"{folder}/gpu_evidence.json").decode()
    document = {"intel_quote": quote.hex(), "event_log": json.loads(log), "nvidia_payload": payload}
    found = recognise({"d": json.dumps(document).encode()}).evidence
    assert isinstance(found, DstackDocument) and len(found.devices) == 8 and found.quote == quote
    plain = recognise({"d": json.dumps({"quote": quote.hex(), "event_log": log}).encode()}).evidence
    assert plain == TdxEvidence(quote=quote, event_log=log.encode())


def test_switches_are_told_from_gpus_by_their_chip() -> None:
    (case,) = cases(shared("evidence", "nvidia-nvswitch", "ls10-full-rim-match"))
    evidence = recognise(case.files).evidence
    assert isinstance(evidence, GpuEvidence)
    assert [device.tee for device in evidence.devices] == ["nvidia-nvswitch"]


@pytest.mark.parametrize(
    "raw", [FILES[i] for i in range(0, len(FILES), 9)], ids=lambda path: path.parent.name
)
def test_altered_files_are_recognised_or_malformed(raw: Path) -> None:
    content = raw.read_bytes()

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(mutated(content))
    def check(altered: bytes) -> None:
        for read_it in (lambda: recognise({"x": altered}), lambda: explain(altered)):
            try:
                read_it()
            except MalformedEvidence:
                continue

    check()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes_are_recognised_or_malformed(raw: bytes) -> None:
    with suppress(MalformedEvidence):
        recognise({"x": raw})


def test_an_extended_report_is_one_file() -> None:
    folder = "snp/genoa-v3-extended-cert-table"
    raw = read(f"{folder}/report.bin") + read(f"{folder}/auxblob_cert_table.bin")
    assert recognise({"x": raw}).evidence == SnpEvidence(report=raw)


def test_recognising_imports_no_xml_and_no_network() -> None:
    code = (
        "import sys, attestation; "
        "print([m for m in ('lxml', 'cbor2', 'torch', 'fastapi', 'aiohttp', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
