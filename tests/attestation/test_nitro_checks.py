"""Nitro documents: the genuine cases, and for each check a vector that only it refuses."""

from datetime import timedelta
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import MalformedEvidence, PolicyError
from attestation.nitro import NitroCheck, NitroDocument, NitroPolicy, appraise
from attestation.verdict import Sheet
from tests.attestation import clouds
from tests.attestation.clouds import (
    NOW,
    accepted,
    blocking,
    case,
    context,
    custom_roots,
    der,
    flipped,
    issue,
    mutated,
    parses,
)

CASES = ["dstack-2025", "evervault-2022", "fail-debug-2025"]
ROOT_KEY, LEAF_KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
ROOT = issue("Test Nitro root", ROOT_KEY, authority=True)
LEAF = issue("enclave", LEAF_KEY, (ROOT.subject, ROOT_KEY))
PCRS = {0: b"\x01" * 48, 1: b"\x02" * 48, 2: b"\x03" * 48, 3: bytes(48)}
NONCE = b"nonce"


def rules(**changes: Any) -> NitroPolicy:
    keys: dict[str, Any] = {"max_age": 60, "pcrs": {"0": ["01" * 48], "2": ["03" * 48, "04" * 48]}} | changes
    return clouds.parse(NitroPolicy, **{k: v for k, v in keys.items() if v is not None})  # type: ignore[no-any-return]


def fields(**changes: Any) -> dict[str, Any]:
    return {
        "module_id": "i-1-enc2",
        "digest": "SHA384",
        "timestamp": int(NOW.timestamp() * 1000),
        "pcrs": PCRS,
        "certificate": der(LEAF),
        "cabundle": [der(ROOT)],
        "public_key": b"key",
        "user_data": b"data",
        "nonce": NONCE,
    } | changes


def document(key: ec.EllipticCurvePrivateKey = LEAF_KEY, algorithm: int = -35, **changes: Any) -> bytes:
    protected, payload = cbor2.dumps({1: algorithm}), cbor2.dumps(fields(**changes))
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA384())))
    signature = r.to_bytes(48, "big") + s.to_bytes(48, "big")
    return bytes(cbor2.dumps([protected, {}, payload, signature]))


def judge(
    raw: bytes, policy: NitroPolicy | None = None, nonce: bytes | None = NONCE, **expected: Any
) -> Sheet:
    surroundings = context(NOW, roots=custom_roots("aws", ROOT))
    read = NitroDocument.from_bytes(raw)
    return appraise(read, surroundings, policy or rules(), subject="cpu0", nonce=nonce, **expected)


def genuine_sheet(genuine: clouds.Case, raw: bytes, **changes: Any) -> Sheet:
    """The document `raw` under a policy for the cases, which come without a nonce of ours."""
    policy = rules(pcrs=None, allow_any_pcrs=True, allow_missing_nonce=True, max_clock_skew=1, **changes)
    read = NitroDocument.from_bytes(raw)
    return appraise(read, context(genuine.at), policy, subject="cpu0", nonce=None)


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    genuine = case(f"aws-nitro/{name}")
    sheet = genuine_sheet(genuine, genuine.must("attestation.cbor"))
    assert accepted(sheet) is genuine.passes, clouds.verdict(sheet).summary()
    assert not clouds.missing_claims(genuine, sheet)
    if not genuine.passes:
        assert blocking(sheet) == {NitroCheck.DEBUG}
        assert accepted(genuine_sheet(genuine, genuine.must("attestation.cbor"), allow_debug=True))


def test_a_genuine_document_binds_its_nonce_and_user_data() -> None:
    genuine = case("aws-nitro/evervault-2022")
    read = NitroDocument.from_bytes(genuine.must("attestation.cbor"))
    policy = rules(pcrs={"0": [genuine.claims["pcr0"]]}, max_clock_skew=1)
    for nonce, good in ((bytes.fromhex(genuine.claims["nonce"]), True), (b"other", False)):
        sheet = appraise(read, context(genuine.at), policy, subject="cpu0", nonce=nonce)
        assert accepted(sheet) is good
    stale = context(genuine.at + timedelta(seconds=61))
    sheet = appraise(read, stale, policy, subject="cpu0", nonce=bytes.fromhex(genuine.claims["nonce"]))
    assert blocking(sheet) == {NitroCheck.FRESHNESS}


def test_our_own_document_is_accepted() -> None:
    sheet = judge(document(), user_data=b"data", public_key=b"key")
    assert accepted(sheet), clouds.verdict(sheet).summary()
    assert accepted(judge(b"\xd2" + document()))


OTHER = issue("other", OTHER_KEY, (ROOT.subject, ROOT_KEY))
EXPIRED = issue("enclave", LEAF_KEY, (ROOT.subject, ROOT_KEY), start=NOW - timedelta(days=3))
FOREIGN = issue("enclave", LEAF_KEY, (ROOT.subject, OTHER_KEY))
UNKNOWN = issue("enclave", LEAF_KEY, (ROOT.subject, ROOT_KEY), critical=True)
REFUSED: list[tuple[bytes, dict[str, Any], set[NitroCheck]]] = [
    (document(OTHER_KEY), {}, {NitroCheck.SIGNATURE}),
    (document(algorithm=-7), {}, {NitroCheck.SIGNATURE}),
    (document(certificate=der(OTHER)), {}, {NitroCheck.SIGNATURE}),
    (document(certificate=der(FOREIGN)), {}, {NitroCheck.CHAIN, NitroCheck.VALIDITY}),
    (document(certificate=der(UNKNOWN)), {}, {NitroCheck.CHAIN}),
    (document(certificate=der(EXPIRED)), {}, {NitroCheck.VALIDITY}),
    (document(timestamp=int(NOW.timestamp() * 1000) - 61_000), {}, {NitroCheck.FRESHNESS}),
    (document(timestamp=int(NOW.timestamp() * 1000) + 1), {}, {NitroCheck.FRESHNESS}),
    (document(pcrs=PCRS | {1: bytes(48)}), {}, {NitroCheck.DEBUG}),
    (document(pcrs={0: PCRS[0], 2: PCRS[2]}), {}, {NitroCheck.DEBUG}),
    (document(pcrs=PCRS | {2: b"\x05" * 48}), {}, {NitroCheck.PCRS}),
    (document(), {"nonce": b"other"}, {NitroCheck.NONCE}),
    (document(nonce=None), {}, {NitroCheck.NONCE}),
    (document(), {"nonce": None}, {NitroCheck.NONCE}),
    (document(), {"user_data": b"other"}, {NitroCheck.USER_DATA}),
    (document(user_data=None), {"user_data": b"data"}, {NitroCheck.USER_DATA}),
    (document(), {"public_key": b"other"}, {NitroCheck.PUBLIC_KEY}),
]


@pytest.mark.parametrize(("raw", "inputs", "expected"), REFUSED)
def test_each_check_refuses(raw: bytes, inputs: dict[str, Any], expected: set[NitroCheck]) -> None:
    assert blocking(judge(raw, **inputs)) == expected


MALFORMED = [
    document() + b"\0",
    document()[:-1],
    document(digest="SHA256"),
    document(module_id=""),
    document(timestamp=0),
    document(timestamp=2**63),
    document(timestamp=True),
    document(pcrs={}),
    document(pcrs={32: bytes(48)}),
    document(pcrs={0: bytes(47)}),
    document(pcrs={True: bytes(48)}),
    document(cabundle=[]),
    document(cabundle=[b""]),
    document(cabundle=[der(ROOT)] * 17),
    document(certificate=b"\x30\x00"),
    document(user_data="text"),
    document(nonce=bytes(1025)),
    cbor2.dumps([b"", {}, cbor2.dumps(fields()), bytes(96), b""]),
    cbor2.dumps([b"", {}, None, bytes(96)]),
    cbor2.dumps([cbor2.dumps({1: -35, 2: [1]}), {}, cbor2.dumps(fields()), bytes(96)]),
    cbor2.dumps([cbor2.dumps({1: -35}), {1: -35}, cbor2.dumps(fields()), bytes(96)]),
    b"\xa2\x01\x01\x01\x01",
    b"\x84\x5f\x41a\xff\xa0\x40\x40",
    b"\x81" * 200,
    b"\x9b" + b"\xff" * 8,
    b"\xc4\x82\x1a\x7f\xff\xff\xff\x01",
    b"\xd8\x23\x61(",
    bytes(70_000),
]


@pytest.mark.parametrize("raw", MALFORMED)
def test_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        NitroDocument.from_bytes(raw)


def test_no_byte_of_a_genuine_document_can_change() -> None:
    genuine = case("aws-nitro/dstack-2025")
    raw = genuine.must("attestation.cbor")
    for index in range(len(raw)):
        try:
            assert not accepted(genuine_sheet(genuine, flipped(raw, index))), index
        except MalformedEvidence:
            continue


@settings(deadline=None)
@given(data=st.data())
def test_mutated_documents_are_judged_or_malformed(data: st.DataObject) -> None:
    genuine = case("aws-nitro/evervault-2022")
    raw = data.draw(st.one_of(st.binary(max_size=200), mutated(genuine.must("attestation.cbor"))))
    sheet = parses(lambda changed: genuine_sheet(genuine, changed), raw)
    assert sheet is None or raw == genuine.must("attestation.cbor") or not accepted(sheet)


@pytest.mark.parametrize(
    "keys",
    [
        {"max_age": None},
        {"max_age": 0},
        {"pcrs": None},
        {"allow_any_pcrs": True},
        {"pcrs": {}},
        {"pcrs": {"0": []}},
        {"pcrs": {"0": ["00" * 32]}},
        {"pcr": {}},
    ],
)
def test_policies_that_leave_something_open_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        rules(**keys)


def test_every_check_has_a_vector_that_it_refuses() -> None:
    refused = {check for entry in REFUSED for check in entry[-1]}
    assert set(NitroCheck) <= refused
