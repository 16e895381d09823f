"""Documents that services and tools put around evidence: what is in them is judged, and nothing else."""

import base64
import gzip
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation import (
    Kind,
    MalformedEvidence,
    NitroEvidence,
    RimEvidence,
    SnpEvidence,
    TdxEvidence,
    recognise,
)
from attestation.bare import MAX_LAYERS, bare
from attestation.certificates import load_all
from attestation.explain import explain
from attestation.importers.members import members
from attestation.importers.quote_collateral import SIGNED
from attestation.importers.tinfoil import MAX_REPORT
from attestation.importers.tinfoil import report as tinfoil_report
from attestation.pieces import Piece, identify
from cloister.cli.files import read_collateral
from tests.attestation.test_forms import load
from tests.evidence_cases import Case
from tests.evidence_score import score
from tests.shared import shared

SNP_V2, TDX_V1 = (f"https://tinfoil.sh/predicate/{name}" for name in ("sev-snp-guest/v2", "tdx-guest/v1"))


def holding(case: Case, **files: bytes) -> Case:
    """The case with these files and no other."""
    return replace(case, fields={**case.fields, "files": dict.fromkeys(files)}, altered=files)


def word(case: Case, **files: bytes) -> str:
    return score(holding(case, **files)).word


def earlier(name: str, body: bytes) -> bytes:
    return json.dumps({"format": name, "body": base64.b64encode(body).decode()}).encode()


def test_a_report_in_tinfoils_earlier_documents() -> None:
    case = load("snp/genoa-v3-vcek")
    report, vcek = case.files["report.bin"], case.files["vcek.pem"]
    document = earlier(SNP_V2, gzip.compress(report))
    assert recognise({"x": document}).evidence == SnpEvidence(report=report, endorsements=())
    assert word(case, x=document, y=vcek) == "accepted"
    assert word(case, x=document) == "unevaluable"
    changed = bytearray(report)
    changed[0x90] ^= 1
    assert word(case, x=earlier(SNP_V2, gzip.compress(bytes(changed))), y=vcek) == "rejected"
    composite = replace(case, fields={**case.fields, "tee": "composite"})
    assert word(composite, x=document, y=vcek) == "accepted"
    assert word(composite, x=report, y=vcek) == "malformed"
    names = {field.name for field in explain(document).fields}
    assert "body.report.measurement" in names


def test_a_quote_in_tinfoils_earlier_documents() -> None:
    case = load("tdx/v5-uptodate")
    quote = case.files["quote.bin"]
    assert recognise({"x": earlier(TDX_V1, quote)}).evidence == TdxEvidence(quote=quote)
    assert word(case, x=earlier(TDX_V1, quote)) == "accepted"


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps({"format": SNP_V2}).encode(),
        json.dumps({"format": SNP_V2, "body": "!"}).encode(),
        earlier(SNP_V2, b"\x1f\x8bnothing"),
        earlier(SNP_V2, gzip.compress(bytes(1184))[:-4]),
        earlier(SNP_V2, gzip.compress(bytes(1184)) + b"more"),
        earlier(SNP_V2, gzip.compress(bytes(MAX_REPORT + 1))),
        b"[]",
    ],
)
def test_bodies_that_are_none(raw: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        tinfoil_report(raw)


def test_documents_in_documents_are_not_taken_apart() -> None:
    raw = b"x"
    for _ in range(9):
        inner = earlier(TDX_V1, gzip.compress(raw)).hex()
        quote = {"message": inner, "signature": inner, "pcrs": []}
        raw = json.dumps({"hcl_report": inner, "tpm_quote": quote, "td_quote": inner}).encode()
    assert len(explain(raw).fields) == 4


def test_a_body_of_another_kind() -> None:
    with pytest.raises(MalformedEvidence, match="Nitro document, neither"):
        recognise({"x": earlier(TDX_V1, load("aws-nitro/dstack-2025").files["attestation.cbor"])})


def test_certificates_as_azures_metadata_service_answers() -> None:
    case = load("azure-aci/milan-2023-uvm-svn22")
    folder = shared("evidence", "_roots", "amd")
    chain = b"".join((folder / f"milan_{name}.pem").read_bytes() for name in ("ask", "ark"))
    answer = {"vcekCert": case.files["vcek.pem"].decode(), "tcbm": "7308000000000003"}
    answer |= {"certificateChain": chain.decode(), "cacheControl": "86400"}
    raw = json.dumps(answer, indent=1).encode()
    assert identify(raw)[0] is Piece.CERTIFICATES
    assert len(load_all(bare(raw))) == 3
    for form in (raw, base64.b64encode(raw)):
        assert score(replace(case, altered={"vcek.pem": form})).word == "accepted"
    for odd in ({"vcekCert": 7}, {"vcekCert": ["x"], "certificateChain": "y"}):
        assert bare(json.dumps(odd).encode()) == json.dumps(odd).encode()


def test_responses_in_what_nvidias_tools_print() -> None:
    case = load("nvidia-nras/v3-single-h100")
    response = json.loads(case.files["nras_response.json"])
    printed = {"claims": [], "detached_eat": response, "result_code": 0, "result_message": "Ok"}
    kept = [["JWT", "eyJhbGciOiJIUzI1NiJ9.e30.AA"], {"REMOTE_GPU_CLAIMS": response}]
    for form in (printed, kept):
        document: Any = form
        assert score(replace(case, altered=as_response(document))).word == "accepted"
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    unsigned = f"{header}.{response[0][1].split('.')[1]}."
    for inner in ([["JWT", unsigned], response[1]], [response[0], {}]):
        for document in (
            printed | {"detached_eat": inner},
            [["JWT", response[0][1]], {"REMOTE_GPU_CLAIMS": inner}],
        ):
            assert score(replace(case, altered=as_response(document))).word == "rejected"
    both = {"REMOTE_GPU_CLAIMS": response, "REMOTE_SWITCH_CLAIMS": response}
    for document in ([kept[0], both], [kept[0], {"LOCAL_GPU_CLAIMS": response}]):
        assert score(replace(case, altered=as_response(document))).word == "malformed"


def quote_collateral() -> dict[str, str]:
    """Intel's files for tdx/v4-uptodate in one object, the signed parts as the text that was signed."""
    folder = shared("evidence", "_collateral", "intel", "2025-06_b0c06f000000_tdx")
    roots = shared("evidence", "_roots", "intel")
    found = {"root_ca_crl": (roots / "root_ca_crl_2025-03-20.der").read_bytes().hex()}
    found["pck_crl"] = base64.b64encode((folder / "pck_crl.der").read_bytes()).decode()
    for name, member in SIGNED.items():
        _, spans = members((folder / f"{name}.json").read_bytes(), 1 << 20)
        found[name] = spans[member].decode()
        found[f"{name}_signature"] = json.loads(spans["signature"])
        found[f"{name}_issuer_chain"] = (roots / "tcb_signing_chain_2025.pem").read_text()
    return found


def test_collateral_of_a_quote_in_one_document(tmp_path: Path) -> None:
    case = load("tdx/v4-uptodate")
    quote, document = case.files["quote.bin"], quote_collateral()

    def given(**changes: Any) -> str:
        raw = json.dumps(document | changes, indent=1).encode()
        bare_case = replace(case, fields={**case.fields, "collateral": None})
        return word(bare_case, quote=quote, beside=raw)

    assert given() == "accepted"
    assert recognise({"q": quote, "c": json.dumps(document).encode()}).unused == ()
    assert given(pck_crl="") == "unevaluable"
    assert given(tcb_info=document["tcb_info"].replace("OutOfDate", "UpToDate")) == "rejected"
    assert given(tcb_info_signature=document["qe_identity_signature"]) == "rejected"
    for odd in ({"tcb_info": "[]"}, {"tcb_info": "{"}, {"qe_identity_signature": 7}, {"root_ca_crl": "!"}):
        assert given(**odd) == "malformed"
    keys = base64.b64encode(b'{"keys": []}').decode()
    for smuggled in (keys, load("snp/genoa-v3-vcek").files["report.bin"].hex()):
        assert given(root_ca_crl=smuggled) == "malformed"
    file = tmp_path / "collateral.json"
    file.write_text(json.dumps(document))
    assert read_collateral([file]).of(Kind.INTEL_TCB_INFO)


def test_devices_in_a_collection_of_conceptual_messages() -> None:
    case = load("nvidia-gpu/multi-4x-h100-ppcie")
    ((name, raw),) = case.files.items()

    def message(text: str) -> list[str]:
        return ["application/x", base64.urlsafe_b64encode(base64.b64decode(text)).decode().rstrip("=")]

    wrapped: dict[str, Any] = {"__cmwc_t": "tag:nvidia.com,2026:x"}
    for index, item in enumerate(json.loads(raw)):
        kept = {part: message(item[part]) for part in ("evidence", "certificate")}
        wrapped[f"gpu_{index}"] = {"__cmwc_t": "y", "hints": ["application/json", "e30"]} | kept
    document = json.dumps(wrapped).encode()
    assert recognise({"x": document}).evidence == recognise({"x": raw}).evidence
    assert score(replace(case, altered={name: document})).word == "accepted"
    twice = wrapped | {"gpu_9": wrapped["gpu_0"]}
    assert score(replace(case, altered={name: json.dumps(twice).encode()})).word == "rejected"
    for odd in (7, {"evidence": ["a"]}, wrapped["gpu_0"] | {"evidence": "AA"}):
        with pytest.raises(MalformedEvidence):
            recognise({"x": json.dumps(wrapped | {"gpu_9": odd}).encode()})
    with pytest.raises(MalformedEvidence):
        recognise({"x": b'{"__cmwc_t": "tag:nvidia.com,2026:x"}'})


def nested(times: int) -> bytes:
    """A string in a string so many times, with escapes that make each layer only a little longer."""
    text = "A" * 40
    for _ in range(times):
        text = '"' + text.replace("\\", "\\u005c").replace('"', "\\u0022") + '"'
    return text.encode()


@pytest.mark.parametrize(
    "raw",
    [
        nested(500),
        b"AAAA" * 8 + b" " * 200_000 + b"!",
        b"ab" * 16 + b" :" * 100_000 + b"!",
        b" " * 200_000 + b'"a"' + b" " * 200_000 + b"!",
    ],
    ids=["strings in strings", "almost base64", "almost hexadecimal", "almost a string"],
)
def test_what_almost_is_wrapped_takes_no_time(raw: bytes) -> None:
    begun = time.process_time()
    assert identify(raw)[0] is Piece.TEXT
    assert time.process_time() - begun < 5


def test_few_layers_are_taken_off() -> None:
    report = load("snp/genoa-v3-vcek").files["report.bin"]
    text = base64.b64encode(report).decode()
    for layers in range(1, MAX_LAYERS + 3):
        text = json.dumps(text)
        assert (identify(text.encode())[1] == report) is (layers <= MAX_LAYERS)


def test_what_is_no_wrapping_stays() -> None:
    register = json.dumps({"4": "ab" * 32}).encode()
    assert identify(register) == (Piece.PCRS, register)
    document = json.dumps({"format": "x", "of": {"vcekCert": "y"}}).encode()
    assert bare(document) == document


def test_certificates_after_an_empty_line_and_text() -> None:
    vcek = load("azure-aci/milan-2023-uvm-svn22").files["vcek.pem"]
    assert load_all(identify(b"\n issuer=CN = y\n" + vcek)[1]) == load_all(vcek)


def as_response(document: Any) -> dict[str, bytes]:
    return {"nras_response.json": json.dumps(document).encode()}


def test_several_attestations_are_named_so() -> None:
    quote = load("tdx/v5-uptodate").files["quote.bin"].hex()
    one = {"intel_quote": quote, "signing_address": "0x00"}
    for document in ({"gateway_attestation": one}, {"model_attestations": [one, one]}):
        raw = json.dumps(document).encode()
        assert identify(raw)[0] is Piece.SEVERAL and explain(raw).fields
        with pytest.raises(MalformedEvidence, match="each is a document by itself"):
            recognise({"x": raw})


def test_certificates_that_are_no_part_are_named_as_unused() -> None:
    root = shared("evidence", "_roots", "aws", "nitro_enclaves_root_g1.pem").read_bytes()
    document = load("aws-nitro/dstack-2025").files["attestation.cbor"]
    found = recognise({"document": document, "root": root})
    assert found.evidence == NitroEvidence(document=document)
    assert found.unused == ("root",)


def test_certificates_beside_a_manifest_do_not_make_it_a_tpm() -> None:
    case = load("nvidia-rim/driver-gh100-550-144-03")
    (manifest,) = case.files.values()
    root = shared("evidence", "_roots", "nvidia", "nras_intermediates.pem").read_bytes()
    found = recognise({"manifest": manifest, "root": root})
    assert found.evidence == RimEvidence(manifest=manifest)
    assert found.unused == ("root",)
    assert word(case, manifest=manifest, root=root) == score(case).word
