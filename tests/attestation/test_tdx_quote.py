"""Quotes re-encode byte for byte; whatever bytes come, there is a quote, a sheet or MalformedEvidence."""

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestation import Kind, MalformedEvidence, tdx
from attestation.dcap.certificate import Certificate, Crl, pem_chain
from attestation.dcap.documents import QeIdentity, SignedDocument, TcbInfo
from attestation.dcap.enclave import EnclaveReport
from attestation.dcap.pck import PckExtension
from attestation.dcap.quote import BODY_SIZES, MAX_QUOTE, BodyType, Header, Quote
from attestation.tdx.event_log import EventLog
from attestation.tdx.report import TdReport

from . import tdx_cases as cases
from . import tdx_pki as pki
from .tdx_cases import load, tdx_rules, verdict
from .tdx_machine import Platform

CASES = cases.names("tdx") + cases.names("sgx")
octets = st.binary


@pytest.mark.parametrize("name", CASES)
def test_genuine_quotes_re_encode(name: str) -> None:
    raw = load(name).quote
    quote = Quote.from_bytes(raw)
    assert quote.to_bytes() == raw
    assert quote.signed == raw[: len(quote.signed)]
    if quote.body_type is BodyType.SGX:
        assert EnclaveReport.from_bytes(quote.body).to_bytes() == quote.body
    else:
        assert TdReport.from_bytes(quote.body_type, quote.body).to_bytes() == quote.body
    assert EnclaveReport.from_bytes(quote.qe_report).to_bytes() == quote.qe_report


def test_google_pads_its_buffer() -> None:
    raw = load("tdx/v4-gcp-ccel").quote
    quote = Quote.from_bytes(raw)
    assert len(raw) == 8000 and quote.padding and not any(quote.padding)
    with pytest.raises(MalformedEvidence):
        Quote.from_bytes(raw[:-1] + b"\x01")


headers = st.builds(
    Header,
    version=st.just(5),
    key_type=st.integers(0, 0xFFFF),
    tee_type=st.integers(0, 0xFFFFFFFF),
    qe_svn=st.integers(0, 0xFFFF),
    pce_svn=st.integers(0, 0xFFFF),
    qe_vendor=octets(min_size=16, max_size=16),
    user_data=octets(min_size=20, max_size=20),
)


@given(header=headers, kind=st.sampled_from(BodyType), data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_encoded_parses_to_the_same(header: Header, kind: BodyType, data: st.DataObject) -> None:
    size = BODY_SIZES[kind]
    quote = Quote(
        header=header,
        body_type=kind,
        body=data.draw(octets(min_size=size, max_size=size)),
        signature=data.draw(octets(min_size=64, max_size=64)),
        attestation_key=data.draw(octets(min_size=64, max_size=64)),
        qe_report=data.draw(octets(min_size=384, max_size=384)),
        qe_signature=data.draw(octets(min_size=64, max_size=64)),
        qe_auth_data=data.draw(octets(max_size=300)),
        certification_type=data.draw(st.integers(0, 0xFFFF)),
        certification_data=data.draw(octets(max_size=300)),
        padding=bytes(data.draw(st.integers(0, 20))),
    )
    assert Quote.from_bytes(quote.to_bytes()) == quote
    if kind is not BodyType.SGX:
        assert TdReport.from_bytes(kind, quote.body).to_bytes() == quote.body


@given(raw=octets(max_size=2000))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes(raw: bytes) -> None:
    for parse in PARSERS:
        try:
            parse(raw)
        except MalformedEvidence:
            continue


PARSERS: list[Any] = [
    Quote.from_bytes,
    Certificate.from_der,
    Crl.from_bytes,
    PckExtension.from_bytes,
    pem_chain,
    EventLog.from_bytes,
    TcbInfo.from_json,
    QeIdentity.from_json,
    EnclaveReport.from_bytes,
    lambda raw: SignedDocument.from_bytes(raw, "tcbInfo"),
    lambda raw: TdReport.from_bytes(BodyType.TD_15, raw),
]


def mutate(raw: bytes, seed: int) -> bytes:
    """`raw` with a few bytes changed, cut out, put in or doubled."""
    chance = random.Random(seed)
    found = bytearray(raw)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found) or 1)
        match chance.randrange(4):
            case 0:
                found[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del found[at : at + chance.randint(1, 40)]
            case 2:
                found[at:at] = chance.randbytes(chance.randint(1, 8))
            case _:
                found[at:at] = found[at : at + 32]
    return bytes(found)


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_quotes_are_never_accepted(seed: int) -> None:
    case = load("tdx/v4-gcp-ccel" if seed % 2 else "tdx/v5-uptodate")
    raw = mutate(case.quote, seed)
    try:
        parsed = Quote.from_bytes(raw)
        sheet = tdx.appraise(raw, case.context(tdx_rules()), subject="cpu0", report_data=None)
    except MalformedEvidence:
        return
    assert parsed.to_bytes() == raw
    if verdict(sheet, case.now).accepted:
        original = Quote.from_bytes(case.quote)
        assert parsed.signed == original.signed  # only padding or white space in PEM may differ


@given(seed=st.integers(0, 1 << 32), kind=st.sampled_from([k for k in Kind if k.name.startswith("INTEL")]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_collateral_changes_no_claim(seed: int, kind: Kind) -> None:
    case = load("tdx/v5-uptodate")
    raw = mutate(case.collateral.of(kind)[0] if case.collateral.of(kind) else b"\x30", seed)
    sheet = tdx.appraise(
        case.quote, case.context(tdx_rules(), **{kind.name: (raw,)}), subject="cpu0", report_data=None
    )
    if verdict(sheet, case.now).accepted:
        assert sheet.claims["tcb"]["converged_tcb_status"] == "UpToDate"
        assert sheet.claims["tcb"]["tcb_eval_num"] == 18


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=150, deadline=None)
def test_mutated_certificates_and_extensions(seed: int) -> None:
    platform = Platform()
    leaf = pem_chain(platform.chain())[0]
    extension = pki.sgx_extension(platform.components, 13)
    for parse, raw in ((Certificate.from_der, leaf), (PckExtension.from_bytes, extension)):
        try:
            parse(mutate(raw, seed))
        except MalformedEvidence:
            continue


@pytest.mark.parametrize("size", [0, 1, 47, 48, 53, 435, 636, 1020, MAX_QUOTE + 1])
def test_cut_short_or_too_long(size: int) -> None:
    raw = (load("tdx/v5-uptodate").quote + bytes(MAX_QUOTE))[:size]
    with pytest.raises(MalformedEvidence):
        Quote.from_bytes(raw)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0, b"\x02\x00"),
        (0, b"\x06\x00"),
        (0, b"\x03\x00"),
        (4, b"\x82\x00\x00\x00"),
        (48 + 584, b"\xff\xff\xff\xff"),
        (48 + 584, b"\x00\x00\x00\x00"),
        (48 + 584 + 4 + 128, b"\x05\x00"),
        (48 + 584 + 4 + 130, b"\x00\x00\x00\x00"),
    ],
    ids=["v2", "v6", "v3 tdx", "tee", "huge", "empty", "type 5 outside", "inner size"],
)
def test_structure_that_contradicts_itself(offset: int, value: bytes) -> None:
    raw = bytearray(load("tdx/v4-uptodate").quote)
    raw[offset : offset + len(value)] = value
    with pytest.raises(MalformedEvidence):
        Quote.from_bytes(bytes(raw))


@pytest.mark.parametrize(("kind", "size"), [(1, 384), (2, 648), (3, 584), (4, 648), (5, 648), (0, 0)])
def test_body_descriptor_of_version_5(kind: int, size: int) -> None:
    raw = bytearray(load("tdx/v5-uptodate").quote)
    raw[48:54] = kind.to_bytes(2, "little") + size.to_bytes(4, "little")
    with pytest.raises(MalformedEvidence):
        quote = Quote.from_bytes(bytes(raw))
        TdReport.from_bytes(quote.body_type, quote.body)


def test_the_extended_body_puts_its_fields_where_intel_has_them() -> None:
    raw = bytes(range(256)) * 4
    report = TdReport.from_bytes(BodyType.TD_15_EX, raw[:885])
    assert report.extended is not None
    assert report.extended.vmid == raw[648] and report.extended.td_id == raw[649:681]
    assert report.extended.service_td_hash == raw[829:877]
    assert report.to_bytes() == raw[:885]
