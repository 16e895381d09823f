"""Container instances: the genuine case, and for each check a vector that only it refuses."""

import base64
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.azure import AciCheck, AciPolicy, DidX509, UvmEndorsement, appraise_aci
from attestation.checks import CheckId
from attestation.encoding import b64url_encode
from attestation.errors import MalformedEvidence, PolicyError
from attestation.snp import SnpPolicy
from attestation.verdict import Sheet
from tests.attestation import clouds, snp_cases
from tests.attestation.clouds import accepted, blocking, case, context, der, flipped, issue, mutated, parses

NAME = "azure-aci/milan-2023-uvm-svn22"
MICROSOFT = "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.2"
EKU = "1.3.6.1.4.1.99999.2"
FEED = "ContainerPlat-AMD-UVM"
START = datetime(2023, 3, 1, tzinfo=UTC)
CA_KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
KEY, OTHER_RSA = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
CA = issue("UVM CA", CA_KEY, authority=True, start=START, days=4000)
LEAF = issue("UVM signer", KEY, (CA.subject, CA_KEY), usages=(EKU,), start=START, days=30)


def did(certificate: Any = CA, *usages: str) -> str:
    print_ = b64url_encode(hashlib.sha256(der(certificate)).digest())
    return f"did:x509:0:sha256:{print_}" + "".join(f"::eku:{usage}" for usage in usages or (EKU,))


def rules(**changes: Any) -> AciPolicy:
    keys: dict[str, Any] = {
        "issuers": [MICROSOFT, did()],
        "feeds": [FEED],
        "minimum_svn": 22,
        "security_policies": [case(NAME).claims["host_data"]],
    } | changes
    return clouds.parse(AciPolicy, **{k: v for k, v in keys.items() if v is not None})  # type: ignore[no-any-return]


def endorse(
    headers: dict[Any, Any] | None = None,
    payload: Any = None,
    *,
    key: rsa.RSAPrivateKey = KEY,
    chain: tuple[Any, ...] = (LEAF, CA),
) -> bytes:
    """An endorsement of the genuine measurement; headers that are None are left out."""
    made: dict[Any, Any] = {
        1: -38,
        3: "application/json",
        33: [der(item) for item in chain],
        "iss": did(),
        "feed": FEED,
        "signingtime": cbor2.CBORTag(1, int(START.timestamp()) + 60),
    } | (headers or {})
    protected = cbor2.dumps({name: value for name, value in made.items() if value is not None})
    measurement = case(NAME).claims["measurement"]
    content = {"x-ms-sevsnpvm-guestsvn": "22", "x-ms-sevsnpvm-launchmeasurement": measurement} | (
        payload or {}
    )
    body = json.dumps(content).encode()
    signed = cbor2.dumps(["Signature1", protected, b"", body])
    signature = key.sign(signed, padding.PSS(padding.MGF1(hashes.SHA384()), 48), hashes.SHA384())
    return bytes(cbor2.dumps(cbor2.CBORTag(18, [protected, {}, body, signature])))


def judge(uvm: bytes | None = None, policy: AciPolicy | None = None, **changes: Any) -> tuple[Sheet, Sheet]:
    genuine = case(NAME)
    given_inputs: dict[str, Any] = {
        "report_data": bytes.fromhex(genuine.claims["report_data"]),
        "security_policy": base64.b64decode(genuine.must("security_policy.b64")),
    } | changes
    snp = clouds.parse(SnpPolicy, **snp_cases.LENIENT)
    return appraise_aci(
        genuine.must("report.bin"),
        [genuine.must("vcek.pem")],
        UvmEndorsement.from_bytes(uvm or genuine.must("uvm_endorsements.cose")),
        context(genuine.at, snp=snp),
        policy or rules(),
        subject="cpu0",
        **given_inputs,
    )


def test_the_genuine_container_group() -> None:
    sheets = judge()
    assert accepted(*sheets), clouds.verdict(*sheets).summary()
    assert not clouds.missing_claims(case(NAME), *sheets)


def test_our_own_endorsement_is_accepted() -> None:
    for uvm in (
        endorse(),
        endorse(
            {
                "iss": None,
                "feed": None,
                "signingtime": None,
                15: {1: did(), 2: FEED, 6: int(START.timestamp())},
            }
        ),
        endorse(payload={"x-ms-sevsnpvm-guestsvn": 23}),
    ):
        assert accepted(*judge(uvm)), clouds.verdict(*judge(uvm)).summary()


PLAIN = issue("UVM signer", KEY, (CA.subject, CA_KEY), start=START, days=30)
SILENT = issue("UVM signer", KEY, (CA.subject, CA_KEY), usages=(EKU,), signs=False, start=START)
FOREIGN = issue("UVM signer", KEY, (CA.subject, OTHER_KEY), usages=(EKU,), start=START, days=30)
LATE = cbor2.CBORTag(1, int((START + timedelta(days=31)).timestamp()))
REFUSED: list[tuple[Any, dict[str, Any], dict[str, Any], set[CheckId]]] = [
    (lambda: endorse(key=OTHER_RSA), {}, {}, {AciCheck.UVM_SIGNATURE}),
    (lambda: endorse({1: -37}), {}, {}, {AciCheck.UVM_SIGNATURE}),
    (lambda: endorse(chain=(SILENT, CA)), {}, {}, {AciCheck.UVM_SIGNATURE}),
    (endorse, {"issuers": [MICROSOFT]}, {}, {AciCheck.UVM_ISSUER}),
    (lambda: endorse(chain=(FOREIGN, CA)), {}, {}, {AciCheck.UVM_CHAIN, AciCheck.UVM_VALIDITY}),
    (lambda: endorse(chain=(LEAF,)), {}, {}, {AciCheck.UVM_CHAIN, AciCheck.UVM_VALIDITY}),
    (
        lambda: endorse({"iss": MICROSOFT}),
        {},
        {},
        {AciCheck.UVM_CHAIN, AciCheck.UVM_VALIDITY, AciCheck.UVM_USAGE},
    ),
    (
        lambda: endorse({"iss": "did:web:example.org"}),
        {},
        {},
        {AciCheck.UVM_ISSUER, AciCheck.UVM_CHAIN, AciCheck.UVM_VALIDITY, AciCheck.UVM_USAGE},
    ),
    (lambda: endorse({"signingtime": LATE}), {}, {}, {AciCheck.UVM_VALIDITY}),
    (lambda: endorse({"signingtime": None}), {}, {}, {AciCheck.UVM_VALIDITY}),
    (lambda: endorse(chain=(PLAIN, CA)), {}, {}, {AciCheck.UVM_USAGE}),
    (lambda: endorse({"feed": "other"}), {}, {}, {AciCheck.UVM_FEED}),
    (lambda: endorse(payload={"x-ms-sevsnpvm-guestsvn": "21"}), {}, {}, {AciCheck.UVM_SVN}),
    (
        lambda: endorse(payload={"x-ms-sevsnpvm-launchmeasurement": "00" * 48}),
        {},
        {},
        {AciCheck.MEASUREMENT},
    ),
    (endorse, {}, {"security_policy": b"package policy"}, {AciCheck.HOST_DATA}),
    (endorse, {"security_policies": ["00" * 32]}, {}, {AciCheck.SECURITY_POLICY}),
    (
        endorse,
        {"security_policies": None, "allow_any_security_policy": True},
        {"security_policy": None},
        {AciCheck.HOST_DATA},
    ),
]


@pytest.mark.parametrize(("uvm", "policy", "inputs", "expected"), REFUSED)
def test_each_check_refuses(
    uvm: Any, policy: dict[str, Any], inputs: dict[str, Any], expected: set[CheckId]
) -> None:
    assert blocking(*judge(uvm(), rules(**policy), **inputs)) == expected


def test_a_listed_digest_needs_no_policy_text() -> None:
    assert accepted(*judge(security_policy=None))
    assert accepted(*judge(policy=rules(security_policies=None, allow_any_security_policy=True)))


def test_the_utility_vm_of_another_report_is_refused() -> None:
    uvm = UvmEndorsement.from_bytes(case(NAME).must("uvm_endorsements.cose"))
    assert replace(uvm, guest_svn=21).guest_svn < rules().minimum_svn
    assert AciCheck.UVM_SVN in blocking(*judge(policy=rules(minimum_svn=23)))


MALFORMED: list[tuple[dict[Any, Any], dict[str, Any]]] = [
    ({3: "text/plain"}, {}),
    ({"iss": None}, {}),
    ({"feed": 1}, {}),
    ({33: None}, {}),
    ({33: []}, {}),
    ({33: [b"\x30\x00"]}, {}),
    ({"signingtime": "now"}, {}),
    ({"signingtime": 2**62}, {}),
    ({}, {"x-ms-sevsnpvm-guestsvn": None}),
    ({}, {"x-ms-sevsnpvm-guestsvn": "-1"}),
    ({}, {"x-ms-sevsnpvm-guestsvn": True}),
    ({}, {"x-ms-sevsnpvm-launchmeasurement": "00"}),
    ({}, {"x-ms-sevsnpvm-launchmeasurement": "zz"}),
]


@pytest.mark.parametrize(("headers", "payload"), MALFORMED)
def test_malformed(headers: dict[Any, Any], payload: dict[str, Any]) -> None:
    with pytest.raises(MalformedEvidence):
        UvmEndorsement.from_bytes(endorse(headers, payload))


def test_no_signed_byte_of_a_genuine_endorsement_can_change() -> None:
    raw = case(NAME).must("uvm_endorsements.cose")
    message = UvmEndorsement.from_bytes(raw).message
    start, body = raw.index(message.protected), raw.index(message.payload)
    places = [*range(start, start + len(message.protected)), *range(body, len(raw))]
    for place in places[::3]:
        sheets = parses(lambda changed: judge(changed), flipped(raw, place))
        assert sheets is None or not accepted(*sheets), place


@settings(deadline=None)
@given(data=st.data())
def test_mutated_endorsements_are_judged_or_malformed(data: st.DataObject) -> None:
    raw = data.draw(st.one_of(st.binary(max_size=100), mutated(case(NAME).must("uvm_endorsements.cose"))))
    parses(lambda changed: judge(changed) if changed else None, raw)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (MICROSOFT, True),
        (did(CA, "1.2", "1.3"), True),
        (did() + "::subject:CN:x", False),
        (did().replace("sha256", "sha384"), False),
        (did().split("::")[0], False),
        ("did:x509:0:sha256:AA::eku:1.2", False),
        ("did:x509:0:sha256:?::eku:1.2", False),
        ("did:x509:0:sha256:" + "A" * 600, False),
        ("", False),
    ],
)
def test_identifiers(text: str, good: bool) -> None:
    assert (DidX509.parse(text) is not None) is good


@pytest.mark.parametrize(
    "keys",
    [
        {"issuers": None},
        {"issuers": ["did:web:example.org"]},
        {"feeds": None},
        {"minimum_svn": None},
        {"security_policies": None},
        {"allow_any_security_policy": True},
        {"minimum_svm": 1},
    ],
)
def test_policies_that_leave_something_open_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        rules(**keys)


def test_every_check_has_a_vector_that_it_refuses() -> None:
    refused = {check for entry in REFUSED for check in entry[-1]}
    assert set(AciCheck) <= refused
