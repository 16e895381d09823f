"""Bundle, keyset, session and workload: strict on the way in, identical on the way out."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import (
    Bundle,
    Collateral,
    CpuEvidence,
    DeviceEvidence,
    Keyset,
    Kind,
    LoadedModel,
    MalformedEvidence,
    OhttpKey,
    Session,
    Workload,
)
from attestation.encoding import canonical

KEY = OhttpKey(key_id=7, kem=0x647A, public_key=b"k" * 1216, suites=((1, 2),))
KEYSET = Keyset(ohttp=(KEY,), receipt_public_key=b"r" * 32, not_before=1000, not_after=2000)
SESSION = Session(key=KEY, not_after=1060)
MODEL = LoadedModel(name="faq", root=b"m" * 32, owner="")
WORKLOAD = Workload(
    software="cloister 0.1.0",
    models=(MODEL,),
    adapters=(),
    engine={"dtype": "float32", "max_rows": 64, "fast": True},
    policies=("issuer:sha256:00",),
    consent="",
    clock="host",
)
BUNDLE = Bundle(
    nonce=bytes(32),
    keyset=KEYSET.to_bytes(),
    workload=WORKLOAD.to_bytes(),
    session=SESSION.to_bytes(),
    cpu=CpuEvidence(tee="sev-snp", report=b"report", endorsements=(b"cert",)),
    devices=(DeviceEvidence(tee="nvidia-gpu", report=b"r", chain=b"c"),),
    collateral=Collateral({Kind.AMD_CRL: (b"crl",)}),
)
DOCUMENTS = [(Keyset, KEYSET), (Session, SESSION), (Workload, WORKLOAD)]


@pytest.mark.parametrize(("kind", "value"), DOCUMENTS)
def test_documents_round_trip(kind: Any, value: Any) -> None:
    assert kind.from_bytes(value.to_bytes()) == value


@pytest.mark.parametrize(("kind", "value"), DOCUMENTS)
def test_a_document_that_is_not_its_own_canonical_form_is_malformed(kind: Any, value: Any) -> None:
    loose = json.dumps(json.loads(value.to_bytes()), indent=1).encode()
    with pytest.raises(MalformedEvidence, match="RFC 8785"):
        kind.from_bytes(loose)


@pytest.mark.parametrize(("kind", "value"), DOCUMENTS)
def test_missing_and_added_members_are_malformed(kind: Any, value: Any) -> None:
    table = json.loads(value.to_bytes())
    for name in table:
        with pytest.raises(MalformedEvidence):
            kind.from_bytes(canonical({k: v for k, v in table.items() if k != name}))
    with pytest.raises(MalformedEvidence):
        kind.from_bytes(canonical(table | {"extra": 1}))
    with pytest.raises(MalformedEvidence):
        kind.from_bytes(canonical(table | {"v": 2}))


def test_a_keyset_may_not_repeat_ids_or_keys() -> None:
    other = OhttpKey(key_id=8, kem=0x20, public_key=b"x" * 32, suites=((1, 1),))
    same_id = OhttpKey(key_id=7, kem=0x20, public_key=b"x" * 32, suites=((1, 1),))
    same_key = OhttpKey(key_id=9, kem=0x20, public_key=b"r" * 32, suites=((1, 1),))
    good = Keyset(ohttp=(KEY, other), receipt_public_key=b"r" * 32, not_before=0, not_after=1)
    assert Keyset.from_bytes(good.to_bytes()) == good
    for keys in ((KEY, same_id), (KEY, same_key), ()):
        bad = Keyset(ohttp=keys, receipt_public_key=b"r" * 32, not_before=0, not_after=1)
        with pytest.raises(MalformedEvidence):
            Keyset.from_bytes(bad.to_bytes())


def test_a_bundle_round_trips() -> None:
    assert Bundle.from_json(BUNDLE.to_json()) == BUNDLE


def altered(**changes: Any) -> bytes:
    return json.dumps(json.loads(BUNDLE.to_json()) | changes).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        altered(format="cloister/evidence/v2"),
        altered(nonce="AAAA"),
        altered(extra=1),
        altered(devices=[{}]),
        altered(devices=json.loads(BUNDLE.to_json())["devices"] * 65),
        altered(cpu={"tee": "sev-snp", "report": "AA"}),
        altered(cpu={"tee": "", "report": "AA", "endorsements": []}),
        altered(collateral={"amd.unheard-of": []}),
        altered(session=None),
        BUNDLE.to_json() + b"\n{}",
        BUNDLE.to_json().replace(b'"format"', b'"nonce"', 1),
        b" " * (4 * 1024 * 1024) + BUNDLE.to_json(),
    ],
    ids=range(15),
)
def test_other_documents_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        Bundle.from_json(raw)


@given(st.data())
def test_a_mutated_bundle_parses_or_is_malformed(data: st.DataObject) -> None:
    raw = bytearray(BUNDLE.to_json())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        bundle = Bundle.from_json(bytes(raw))
    except MalformedEvidence:
        return
    assert Bundle.from_json(bundle.to_json()) == bundle


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_malformed(raw: bytes) -> None:
    for parse in (Bundle.from_json, Keyset.from_bytes, Session.from_bytes, Workload.from_bytes):
        with pytest.raises(MalformedEvidence):
            parse(raw)


def test_names_in_a_workload_are_distinct_and_short() -> None:
    """A request names one thing, and a name as long as a padding bucket would let token lengths show."""
    adapter = dataclasses.replace(MODEL, name="x" * 64)
    good = dataclasses.replace(WORKLOAD, adapters=(adapter,))
    assert Workload.from_bytes(good.to_bytes()) == good
    for name in (MODEL.name, "x" * 65, ""):
        bad = dataclasses.replace(WORKLOAD, adapters=(dataclasses.replace(MODEL, name=name),))
        with pytest.raises(MalformedEvidence, match="names"):
            Workload.from_bytes(bad.to_bytes())
