"""The same evidence in other forms that carry the same bytes: the verdict stays what it was."""

import base64
import gzip
import json
import random
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from attestation import AzureVtpm, MalformedEvidence, TpmQuotes, recognise
from attestation.bare import bare
from attestation.certificates import load as load_certificate
from attestation.certificates import load_all
from attestation.explain import explain
from attestation.importers import trustee
from attestation.pieces import Piece, identify
from attestation.tpm.public import Public
from tests.evidence_cases import Case, cases
from tests.evidence_score import score
from tests.shared import shared

ACCEPTED = (
    "snp/milan-v2-vcek",
    "snp/genoa-v3-vcek",
    "snp/turin-v5-vcek",
    "tdx/v5-uptodate",
    "tdx/v4-gcp-ccel",
    "nvidia-gpu/h100-full-rim-match",
    "azure-snp-vtpm/genoa",
    "azure-aci/milan-2023-uvm-svn22",
    "aws-nitro/dstack-2025",
    "tpm/gce-ak-chain",
    "tpm/gce-cos85-nonce9009",
)


def load(name: str) -> Case:
    (found,) = cases(shared("evidence", *name.split("/")))
    return Case(found.folder, found.fields, (shared("evidence"),))


def is_text(raw: bytes) -> bool:
    try:
        return raw.decode("utf-8").isprintable() or raw[:1] in (b"{", b"[", b"<", b"-")
    except UnicodeDecodeError:
        return False


def in_der(raw: bytes) -> bytes:
    with suppress(MalformedEvidence):
        return load_certificate(raw).raw
    return raw


def in_pem(raw: bytes) -> bytes:
    with suppress(MalformedEvidence):
        return ssl.DER_cert_to_PEM_cert(load_certificate(raw).raw).encode()
    return raw


def crlf(raw: bytes) -> bytes:
    return raw.replace(b"\n", b"\r\n") if raw.startswith(b"-----BEGIN") else raw


def explained(raw: bytes) -> bytes:
    return b"subject=CN = x\nissuer=CN = y\n" + raw if raw.startswith(b"-----BEGIN CERT") else raw


def padded(raw: bytes) -> bytes:
    return raw + bytes(99) if raw[:2] == b"\x30\x82" else raw


def marked(raw: bytes) -> bytes:
    return b"\xef\xbb\xbf" + raw if raw[:1] in (b"{", b"[") else raw


def upper_hex(raw: bytes) -> bytes:
    return raw if is_text(raw) else raw.hex().upper().encode()


def lines(raw: bytes) -> bytes:
    return raw if is_text(raw) else base64.encodebytes(raw).replace(b"\n", b"\r\n")


def url_safe(raw: bytes) -> bytes:
    return raw if is_text(raw) else base64.urlsafe_b64encode(raw).rstrip(b"=")


def colons(raw: bytes) -> bytes:
    return raw if is_text(raw) else raw.hex(":").encode() + b"\n"


def quoted(raw: bytes) -> bytes:
    text = raw.decode() if is_text(raw) else base64.b64encode(raw).decode()
    return raw if raw[:1] in (b"{", b"[", b"<") else b" " + json.dumps(text).encode() + b"\n"


def member(raw: bytes) -> bytes:
    inner = quoted(raw)
    return raw if inner == raw else b'{ "attestation_doc" :' + inner + b"}"


FORMS = (in_der, in_pem, crlf, explained, padded, marked, upper_hex, lines, url_safe, colons, quoted, member)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_verdict_does_not_depend_on_the_form(name: str, form: Callable[[bytes], bytes]) -> None:
    case = load(name)
    other = replace(case, altered={name: form(raw) for name, raw in case.files.items()})
    assert score(other).word == score(case).word == "accepted"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_verdict_does_not_depend_on_names_and_order(name: str, seed: int) -> None:
    case, shuffle = load(name), random.Random(seed)
    contents = list(case.files.values())
    shuffle.shuffle(contents)
    names = {f"{shuffle.getrandbits(32):x}": raw for raw in contents}
    other = replace(case, fields={**case.fields, "files": dict.fromkeys(names)}, altered=names)
    assert score(other).word == "accepted"


def test_signatures_find_their_quotes_but_none_is_invented() -> None:
    case = load("tpm/gce-cos85-nonce9009")
    files = case.files
    foreign = {name: raw for name, raw in files.items() if "sha256.sig" not in name}
    other = load("tpm/gce-cos85-no-nonce").files
    foreign |= {name: raw for name, raw in other.items() if "sha256.sig" in name}
    assert score(replace(case, altered=foreign)).word == "rejected"


def trustee_forms(case: Case) -> Mapping[str, Any]:
    """The parts of a case in the newest form of the agents' document, and in the oldest."""
    evidence = recognise(case.files).evidence
    assert isinstance(evidence, AzureVtpm) and evidence.quote is not None
    message, signature = evidence.quote
    registers = [evidence.pcrs["sha256"][i] for i in range(24)]
    vcek = evidence.endorsements[0]
    new: dict[str, Any] = {
        "version": 2,
        "hcl_report": base64.urlsafe_b64encode(evidence.hcl).decode(),
        "tpm_quote": {
            "message": message.hex(),
            "signature": signature.hex(),
            "pcrs": [r.hex() for r in registers],
        },
        "vcek": base64.urlsafe_b64encode(in_der(vcek)).decode(),
    }
    old = {
        "report": list(evidence.hcl),
        "quote": {
            "message": list(message),
            "signature": list(signature),
            "pcrs": [list(r) for r in registers],
        },
        "vcek": in_pem(vcek).decode(),
    }
    return {"new": new, "old": old}


@pytest.mark.parametrize("form", ["new", "old"])
@pytest.mark.parametrize("name", ["azure-snp-vtpm/genoa", "azure-snp-vtpm/milan-v1"])
def test_azure_evidence_of_trustees_agents_is_one_file(name: str, form: str) -> None:
    case = load(name)
    document = trustee_forms(case)[form]
    raw = json.dumps(document).encode()
    assert identify(raw)[0] is Piece.AZURE_DOCUMENT
    assert {"tpm.quote.clock", "hcl.hardware.version"} <= {field.name for field in explain(raw).fields}
    one = replace(case, fields={**case.fields, "files": {"x": None}}, altered={"x": raw})
    assert score(one).word == "accepted"
    quote = document["tpm_quote" if form == "new" else "quote"]
    quote["message"] = quote["message"][:-1] + ([1] if form == "old" else "1")
    changed = replace(one, altered={"x": json.dumps(document).encode()})
    assert score(changed).word in ("rejected", "malformed")


def test_tpm_evidence_of_trustees_agents() -> None:
    case = load("tpm/gce-cos85-nonce9009")
    evidence = recognise(case.files).evidence
    assert isinstance(evidence, TpmQuotes) and evidence.public is not None
    message, signature = next(pair for pair in evidence.quotes if b"\x00\x01\x00\x0b\x03" in pair[0])
    key = Public.from_bytes(evidence.public).key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    document = {
        "ak_public": base64.b64encode(spki).decode(),
        "tpm_quote": {
            "message": base64.b64encode(message).decode(),
            "signature": base64.b64encode(signature).decode(),
            "pcrs": [evidence.pcrs["sha256"][i].hex() for i in range(24)],
        },
    }
    raw = json.dumps(document).encode()
    one = replace(case, fields={**case.fields, "files": {"x": None}, "roots": []}, altered={"x": raw})
    inputs = {name: value for name, value in (case.fields.get("inputs") or {}).items() if "nonce" in name}
    assert score(replace(one, fields={**one.fields, "inputs": inputs})).word == "accepted"
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    apart = recognise({"key": pem, "m": message, "s": signature}).evidence
    assert isinstance(apart, TpmQuotes) and apart.public == pem


@pytest.mark.parametrize("value", [[256], [-1], ["a"], None, 7, {}, "é", "abc!", True])
def test_bytes_that_are_none_are_malformed(value: Any) -> None:
    with pytest.raises(MalformedEvidence):
        trustee.octets(value, "it")


def test_registers_in_several_forms() -> None:
    case = load("azure-snp-vtpm/genoa")
    (name,) = (name for name, raw in case.files.items() if identify(raw)[0] is Piece.PCRS)
    values = json.loads(case.files[name])
    listed = values if isinstance(values, list) else [values["sha256"][str(i)] for i in range(24)]
    table = {str(i): value for i, value in enumerate(listed)}
    for form in (listed, table, {"sha256": table}, {"sha256": listed}, {"pcrs": listed}):
        other = replace(case, altered={name: json.dumps(form).encode()})
        assert score(other).word == "accepted"


def test_sizes_and_headers_are_taken_off() -> None:
    tpm, report = load("tpm/gce-cos85-nonce9009").files, load("snp/milan-v2-vcek").files["report.bin"]
    for raw in (tpm["ak_pub.tpmt"], tpm["quote_sha256.msg"]):
        assert bare(len(raw).to_bytes(2, "big") + raw) == raw
    header = bytes(4) + (1184).to_bytes(4, "little") + bytes(24)
    assert identify(header + report) == (Piece.SNP_REPORT, report)
    folder = shared("evidence", "_roots", "amd")
    ark, ask = (in_der((folder / f"milan_{name}.pem").read_bytes()) for name in ("ark", "ask"))
    assert [item.raw for item in load_all(bare(ask + ark + bytes(7)))] == [ask, ark]


@given(st.binary(max_size=300))
def test_anything_stays_or_loses_a_wrapping(raw: bytes) -> None:
    assert bare(raw) == raw or len(bare(raw)) < len(raw)


def test_a_token_as_the_service_answers() -> None:
    case = load("azure-maa/windows-cvm-2023")
    (raw,) = case.files.values()
    answer = json.dumps({"token": raw.decode().strip()}, indent=1).encode()
    assert identify(answer) == (Piece.MAA_TOKEN, raw.strip())
    assert score(replace(case, altered=dict.fromkeys(case.files, answer))).word == "accepted"


def test_device_lists_of_several_services() -> None:
    case = load("nvidia-gpu/multi-4x-h100-ppcie")
    ((name, raw),) = case.files.items()
    listed = json.loads(raw)
    listed = next(iter(listed.values())) if isinstance(listed, dict) else listed
    plain = [
        {
            "evidence": base64.b64decode(item["evidence"]).hex(),
            "certificate": base64.b64decode(item["certificate"]).decode(),
        }
        for item in listed
    ]
    for form in (listed, {"evidences": listed}, {"device_evidence_list": listed}, {"evidence_list": plain}):
        assert score(replace(case, altered={name: json.dumps(form).encode()})).word == "accepted"


@pytest.mark.parametrize("seed", range(3))
def test_a_chain_in_a_file_a_certificate(seed: int) -> None:
    case, shuffle = load("nvidia-gpu/h100-550"), random.Random(seed)
    contents = [item.raw for item in load_all(case.files["cert_chain.pem"])] + [case.files["report.bin"]]
    shuffle.shuffle(contents)
    names = {str(i): raw for i, raw in enumerate(contents)}
    apart = replace(case, fields={**case.fields, "files": dict.fromkeys(names)}, altered=names)
    assert score(apart).word == "accepted"


def test_reports_find_their_own_chains_and_lists_add_up() -> None:
    (raw,) = load("nvidia-gpu/multi-4x-h100-ppcie").files.values()
    listed = json.loads(raw)
    reports = {f"a{i}": base64.b64decode(item["evidence"]) for i, item in enumerate(listed)}
    chains = {f"b{i}": base64.b64decode(item["certificate"]) for i, item in enumerate(reversed(listed))}
    whole = recognise({"x": raw}).evidence
    assert recognise(reports | chains).evidence == whole
    halves = {"1": json.dumps(listed[:1]).encode(), "2": json.dumps(listed[1:]).encode()}
    assert recognise(halves).evidence == whole


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_report_of_the_tsm_interface(encode: Callable[[bytes], bytes]) -> None:
    for name, files in (
        ("snp/genoa-v3-extended-cert-table", ("report.bin", "auxblob_cert_table.bin")),
        ("tdx/v5-uptodate", ("quote.bin",)),
    ):
        case = load(name)
        blobs = dict(zip(("outblob", "auxblob"), (case.files[file] for file in files), strict=False))
        document = {key: encode(raw).decode().rstrip("=") for key, raw in blobs.items()}
        raw = json.dumps(document | {"provider": "x_guest\n"}).encode()
        one = replace(case, fields={**case.fields, "files": {"x": None}}, altered={"x": raw})
        assert identify(raw)[0] is Piece.TSM_REPORT and explain(raw).fields
        assert score(one).word == "accepted"


def test_documents_around_a_quote() -> None:
    case = load("tdx/v4-gcp-ccel")
    quote, log = case.files["quote.bin"], gzip.decompress(case.files["ccel_data.bin.gz"])
    spelled = base64.b64encode(quote).decode()
    for document in (
        {"quote": spelled, "cc_eventlog": base64.b64encode(log).decode()},
        {"quote": spelled, "cc_eventlog": None},
        {"tdx_quote": quote.hex().upper()},
    ):
        raw = json.dumps(document).encode()
        one = replace(case, fields={**case.fields, "files": {"x": None}}, altered={"x": raw})
        assert score(one).word == "accepted"


def test_one_device_as_an_object() -> None:
    case = load("nvidia-gpu/h100-550")
    report, chain = case.files["report.bin"], case.files["cert_chain.pem"]
    document = {"arch": "HOPPER", "evidence": base64.b64encode(report).decode()}
    document["certificate"] = base64.b64encode(chain).decode()
    raw = json.dumps(document).encode()
    one = replace(case, fields={**case.fields, "files": {"x": None}}, altered={"x": raw})
    assert score(one).word == "accepted"
