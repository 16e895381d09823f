"""Genuine SEV-SNP evidence: verdicts and claims as published, and no altered byte ever accepted."""

import struct
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation import CheckId, MalformedEvidence, Roots
from attestation.crl import load_crl
from attestation.snp import SnpCheck, SnpReport, Tcb, read_table, table
from attestation.verdict import Outcome
from tests.shared import shared

from .snp_cases import LENIENT, blocking, load_case, names, outcome, policy, verify, verify_case

C = SnpCheck
DECIDED_BY = {
    "fail-vcek-untrusted-bad-hwid": {C.CHAIN, C.REPORT_SIGNATURE, C.CHIP_ID, C.CERTIFICATE_TCB},
    "fail-vcek-untrusted-zero-hwid": {C.CHAIN, C.REPORT_SIGNATURE, C.CHIP_ID, C.CERTIFICATE_TCB},
    "fail-wrong-product-chain": {C.CHAIN, C.PRODUCT},
    "milan-v2-vcek-debug": {C.DEBUG},
}
ONE_PER_VERSION = ["milan-v2-vcek", "genoa-v3-vcek", "turin-v5-vcek", "milan-v3-vlek-aws"]


def test_the_cases_are_there() -> None:
    shared("evidence", "snp")
    assert len(names()) >= 13


@pytest.mark.parametrize("name", names())
def test_verdict_and_claims(name: str) -> None:
    case = load_case(name)
    if not case.claims:
        with pytest.raises(MalformedEvidence, match="793 bytes"):
            verify_case(case)
        return
    sheet, verdict = verify_case(case)
    assert verdict.accepted == case.accepted, verdict.summary()
    assert {key: sheet.claims.get(key) for key in case.claims} == dict(case.claims)
    if name in DECIDED_BY:
        assert blocking(verdict) == DECIDED_BY[name]


def test_without_a_certificate_nothing_is_evaluable() -> None:
    case = load_case("parse-only-gce-v4")
    sheet, verdict = verify_case(case)
    assert verdict.unevaluable
    assert outcome(sheet, C.REPORT_SIGNATURE) is Outcome.UNEVALUABLE
    assert outcome(sheet, C.DEBUG) is Outcome.PASS


def test_certificates_are_judged_at_the_given_time() -> None:
    case = load_case("milan-v3-vlek-aws")
    late = replace(case, now=case.now + timedelta(days=365))
    assert blocking(verify_case(late)[1]) == {C.VALIDITY}


def test_a_reissued_certificate_of_the_same_key_is_as_good() -> None:
    case = load_case("milan-v3-vcek-reissued")
    assert len(case.files) == 2
    for file in case.files:
        assert verify_case(replace(case, files=(file,)))[1].accepted


@pytest.mark.parametrize(
    ("key", "checks"),
    [
        ("allow_vlek", {C.SIGNING_KEY}),
        ("vmpls", {C.VMPL}),
        ("allow_smt", {C.SMT}),
        ("allow_provisional_firmware", {C.COMMITTED_FIRMWARE}),
        ("allow_missing_crl", {C.CRL}),
    ],
)
def test_what_the_genuine_vlek_report_needs(key: str, checks: set[CheckId]) -> None:
    assert blocking(verify_case(load_case("milan-v3-vlek-aws"), **{key: None})[1]) == checks


def test_a_product_line_must_be_listed() -> None:
    case = load_case("milan-v2-vcek")
    assert blocking(verify_case(case, products=["Genoa", "Turin"])[1]) == {C.PRODUCT}


@pytest.mark.parametrize("line", ["milan", "genoa"])
def test_genuine_crls(line: str) -> None:
    case = load_case({"milan": "milan-v3-vcek-reissued", "genoa": "genoa-v3-extended-cert-table"}[line])
    crl = shared("evidence", "_roots", "amd", f"{line}_ark_crl.pem").read_bytes()
    dates = load_crl(crl)
    rules = policy(case.roots, **{k: v for k, v in LENIENT.items() if k != "allow_missing_crl"})
    for now, expected in (
        (dates.this_update, Outcome.PASS),
        (dates.next_update + timedelta(seconds=1), Outcome.UNEVALUABLE),
    ):
        sheet, _ = verify(case.report, case.files, rules, now, crls=[crl])
        assert outcome(sheet, C.CRL) is expected


def test_the_certificate_table_may_follow_the_report() -> None:
    case = load_case("genoa-v3-extended-cert-table")
    extended = case.report + case.files[0]
    rules = policy(case.roots, **LENIENT)
    assert verify(extended, [], rules, case.now)[1].accepted
    with pytest.raises(MalformedEvidence):
        verify(case.report + b"\x01", [], rules, case.now)


def test_a_certificate_table_must_hold_together() -> None:
    raw = load_case("genoa-v3-extended-cert-table").files[0]
    kinds = [kind for kind, _ in read_table(raw)]
    assert kinds == [table.ARK, table.ASK, table.VCEK]
    guid = raw[:16]
    for bad in (
        b"",
        raw[:71],
        guid + struct.pack("<II", 24, 1),
        guid + struct.pack("<II", 48, 1) + bytes(24),
    ):
        with pytest.raises(MalformedEvidence):
            read_table(bad)


def test_pinned_roots_alone_complete_the_chain() -> None:
    for name in ("genoa-v3-vcek", "turin-v5-vcek", "milan-v3-vlek-aws"):
        case = replace(load_case(name), roots=Roots.pinned(["amd"]))
        assert verify_case(case)[1].accepted


def test_ask_may_come_with_the_report() -> None:
    case = load_case("genoa-v3-vcek")
    amd = case.roots.of("amd")
    only_ark = replace(case.roots, anchors={"amd": {"genoa_ark": amd["genoa_ark"]}})
    ask = amd["genoa_ask"].public_bytes(Encoding.PEM)
    assert verify_case(replace(case, roots=only_ark, files=(*case.files, ask)))[1].accepted
    assert blocking(verify_case(replace(case, roots=only_ark))[1]) == {C.CHAIN}


def test_the_fields_of_a_genuine_turin_report() -> None:
    report = SnpReport.from_bytes(load_case("turin-v5-vcek").report)
    assert report.reported_tcb == Tcb(fmc=1, bl=1, tee=1, snp=4, ucode=81)
    assert (report.launch_mit_vector, report.current_mit_vector) == (63, 63)
    assert str(report.product) == "Turin"
    assert report.signed == load_case("turin-v5-vcek").report[:672]


@pytest.mark.parametrize("name", ONE_PER_VERSION)
def test_no_flipped_byte_of_the_signed_region_is_accepted(name: str) -> None:
    case = load_case(name)
    rules = policy(case.roots, **LENIENT)
    rejected = 0
    for offset in range(672):
        altered = bytearray(case.report)
        altered[offset] ^= 1 << offset % 8
        try:
            sheet, verdict = verify(bytes(altered), case.files, rules, case.now)
        except MalformedEvidence:
            continue
        assert outcome(sheet, C.REPORT_SIGNATURE) is Outcome.FAIL, hex(offset)
        assert not verdict.accepted
        rejected += 1
    assert rejected > 400


@pytest.mark.parametrize("name", ["genoa-v3-vcek", "turin-v5-vcek"])
def test_no_flipped_byte_of_the_signature_is_accepted(name: str) -> None:
    case = load_case(name)
    rules = policy(case.roots, **LENIENT)
    for offset in range(0x2A0, 0x2A0 + 144, 5):
        altered = bytearray(case.report)
        altered[offset] ^= 0x80
        assert C.REPORT_SIGNATURE in blocking(verify(bytes(altered), case.files, rules, case.now)[1])


def test_no_flipped_byte_of_the_certificate_is_accepted() -> None:
    case = load_case("milan-v2-vcek")
    rules = policy(case.roots, **LENIENT)
    (vcek,) = case.files
    for offset in range(0, len(vcek), 3):
        altered = bytearray(vcek)
        altered[offset] ^= 1 << offset % 8
        try:
            _, verdict = verify(case.report, [bytes(altered)], rules, case.now)
        except MalformedEvidence:
            continue
        assert not verdict.accepted, offset
