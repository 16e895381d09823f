"""Azure Attestation tokens: the genuine cases, and for each check a vector that only it refuses."""

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attestation.collateral import Kind
from attestation.encoding import b64url_encode
from attestation.errors import MalformedEvidence, PolicyError
from attestation.jose import key_set
from attestation.maa import MaaCheck, MaaPolicy, Token, appraise
from attestation.verdict import Sheet
from tests.attestation import clouds
from tests.attestation.clouds import NOW, accepted, blocking, case, context, der, issue
from tests.shared import shared

ISSUER = "https://example.attest.azure.net"
KEY, OTHER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
NONCE = b"nonce"


def jwk(key: rsa.RSAPrivateKey, kid: str, **extra: Any) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    n, e = (b64url_encode(v.to_bytes((v.bit_length() + 7) // 8, "big")) for v in (numbers.n, numbers.e))
    return {"kty": "RSA", "kid": kid, "n": n, "e": e} | extra


KEYS = json.dumps({"keys": [jwk(KEY, "one", alg="RS256", use="sig"), jwk(OTHER, "two")]}).encode()
THUMBPRINT = key_set([KEYS])["one"].thumbprint.hex()
ISOLATION: dict[str, Any] = {
    "x-ms-attestation-type": "sevsnpvm",
    "x-ms-compliance-status": "azure-compliant-cvm",
    "x-ms-sevsnpvm-is-debuggable": False,
    "x-ms-sevsnpvm-migration-allowed": False,
    "x-ms-sevsnpvm-launchmeasurement": "AB" * 48,
    "x-ms-sevsnpvm-microcode-svn": 115,
    "x-ms-sevsnpvm-guestsvn": 4,
}


def claims(isolation: Any = None, **changes: Any) -> dict[str, Any]:
    start = int(NOW.timestamp())
    made = {
        "iss": ISSUER,
        "nbf": start,
        "iat": start,
        "exp": start + 60,
        "secureboot": True,
        "x-ms-attestation-type": "azurevm",
        "x-ms-azurevm-bootdebug-enabled": False,
        "x-ms-isolation-tee": ISOLATION | (isolation or {}),
        "x-ms-policy-hash": "hash",
        "x-ms-runtime": {
            "client-payload": {"nonce": base64.b64encode(NONCE).decode()},
            "keys": [{"kid": "k"}],
        },
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def token(made: dict[str, Any], key: Any = KEY, kid: str = "one", algorithm: str = "RS256") -> str:
    return jwt.encode(
        made, key, algorithm=algorithm, headers={"kid": kid, "jku": "https://evil.example/certs"}
    )


def rules(**changes: Any) -> MaaPolicy:
    keys: dict[str, Any] = {
        "issuer": ISSUER,
        "keys": [THUMBPRINT],
        "tees": ["sevsnpvm"],
        "compliance": ["azure-compliant-cvm"],
        "measurements": ["ab" * 48],
        "policy_hashes": ["hash"],
        "minimum_svn": {"microcode": 115, "guest": 4},
    } | changes
    return clouds.parse(MaaPolicy, **{k: v for k, v in keys.items() if v is not None})  # type: ignore[no-any-return]


def judge(text: str, policy: MaaPolicy | None = None, keys: bytes | None = KEYS, **inputs: Any) -> Sheet:
    collateral = {Kind.AZURE_MAA_KEYS: (keys,)} if keys is not None else {}
    surroundings = context(NOW, collateral=collateral)
    given_inputs: dict[str, Any] = {"nonce": NONCE} | inputs
    return appraise(Token.from_compact(text), surroundings, policy or rules(), subject="cpu0", **given_inputs)


def genuine_sheet(genuine: clouds.Case, text: str) -> Sheet:
    policy = rules(
        issuer=genuine.input("expected_issuer"),
        keys=["34b7f7e2062ed99ebbe718ec9d114b2fd85175828eeae172fab622aa11bbb561"],
        measurements=None,
        allow_any_measurement=True,
        policy_hashes=None,
        allow_any_policy=True,
        allow_missing_nonce=True,
    )
    keys = shared("evidence", "_roots", "azure", "maa_sharedweu_jwks.json").read_bytes()
    nonce = genuine.input("expected_client_nonce")
    surroundings = context(genuine.at, collateral={Kind.AZURE_MAA_KEYS: (keys,)})
    expected = base64.b64decode(nonce) if nonce else None
    return appraise(Token.from_compact(text), surroundings, policy, subject="cpu0", nonce=expected)


@pytest.mark.parametrize("name", ["windows-cvm-2023", "fail-tampered-nonce"])
def test_cases(name: str) -> None:
    genuine = case(f"azure-maa/{name}")
    sheet = genuine_sheet(genuine, genuine.must("token.jwt").decode().strip())
    assert accepted(sheet) is genuine.passes, clouds.verdict(sheet).summary()
    assert not clouds.missing_claims(genuine, sheet)
    if not genuine.passes:
        assert blocking(sheet) == {MaaCheck.SIGNATURE}


def test_our_own_token_is_accepted() -> None:
    sheet = judge(token(claims()), runtime={"keys": [{"kid": "k"}]})
    assert accepted(sheet), clouds.verdict(sheet).summary()
    assert accepted(judge(token(claims()), rules(keys=None, trust_collateral_keys=True)))


def test_a_token_about_a_tdx_machine() -> None:
    tdx = {
        "x-ms-attestation-type": "tdxvm",
        "x-ms-compliance-status": "azure-compliant-cvm",
        "tdx_td_attributes_debug": False,
        "tdx_mrtd": "ab" * 48,
    }
    policy = rules(tees=["tdxvm"], minimum_svn=None)
    for debug, good in ((False, True), (True, False), (None, False)):
        made = claims(**{"x-ms-isolation-tee": tdx | {"tdx_td_attributes_debug": debug}})
        assert accepted(judge(token(made), policy)) is good
    flat = claims(**({"x-ms-isolation-tee": None} | tdx))
    assert accepted(judge(token(flat), policy))


def test_what_the_profile_for_tdx_says_of_tcb_and_debugging() -> None:
    tdx: dict[str, Any] = {
        "x-ms-attestation-type": "tdxvm",
        "x-ms-compliance-status": "azure-compliant-cvm",
        "tdx_td_attributes_debug": False,
        "tdx_mrtd": "ab" * 48,
    }
    policy = rules(tees=["tdxvm"], minimum_svn=None)
    lenient = rules(tees=["tdxvm"], minimum_svn=None, tcb_statuses=["UpToDate", "OutOfDate"])
    told = {"attester_tcb_status": "UpToDate", "dbgstat": "disabled"}
    for where in ({"x-ms-isolation-tee": tdx | told}, {"x-ms-isolation-tee": None} | tdx | told):
        assert accepted(judge(token(claims(**where)), policy))
    for other in ("OutOfDate", "Revoked", "uptodate", "", 7):
        made = claims(**({"x-ms-isolation-tee": None} | tdx | told | {"attester_tcb_status": other}))
        assert blocking(judge(token(made), policy)) == {MaaCheck.TCB}
        assert accepted(judge(token(made), lenient)) is (other == "OutOfDate")
    for other in ("enabled", "", False):
        made = claims(**({"x-ms-isolation-tee": None} | tdx | told | {"dbgstat": other}))
        assert blocking(judge(token(made), policy)) == {MaaCheck.DEBUG}
    for wrong in (["Revoked"], ["up to date"], "UpToDate"):
        with pytest.raises(PolicyError):
            rules(tcb_statuses=wrong)


P384 = ec.generate_private_key(ec.SECP384R1())
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505


def certified(key: Any, kid: str, kty: str) -> bytes:
    """A key set of one key, given by its certificate alone."""
    chain = [base64.b64encode(der(issue("MAA", key, authority=True))).decode()]
    return json.dumps({"keys": [{"kty": kty, "crv": "P-384", "kid": kid, "x5c": chain}]}).encode()


EC_KEYS, SMALL_KEYS = certified(P384, "three", "EC"), certified(SMALL, "one", "RSA")
START = int(NOW.timestamp())
REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], set[MaaCheck]]] = [
    (token(claims(), OTHER), {}, {}, {MaaCheck.SIGNATURE}),
    (token(claims(), OTHER, "two"), {}, {}, {MaaCheck.KEY}),
    (token(claims(), kid="three"), {}, {}, {MaaCheck.KEY, MaaCheck.SIGNATURE}),
    (token(claims(), algorithm="RS384"), {}, {}, {MaaCheck.SIGNATURE}),
    (token(claims(), P384, "three", "ES384"), {}, {"keys": EC_KEYS}, {MaaCheck.KEY, MaaCheck.SIGNATURE}),
    (token(claims(), algorithm="PS256"), {}, {}, {MaaCheck.SIGNATURE}),
    (token(claims(), None, algorithm="none"), {}, {}, {MaaCheck.SIGNATURE}),
    (token(claims(), b"k" * 64, algorithm="HS256"), {}, {}, {MaaCheck.SIGNATURE}),
    (token(claims()), {}, {"keys": None}, {MaaCheck.KEY, MaaCheck.SIGNATURE}),
    (token(claims(iss=ISSUER + ".evil.example")), {}, {}, {MaaCheck.ISSUER}),
    (token(claims(nbf=START + 1)), {}, {}, {MaaCheck.VALIDITY}),
    (token(claims(exp=START)), {}, {}, {MaaCheck.VALIDITY}),
    (token(claims(exp=None)), {}, {}, {MaaCheck.VALIDITY}),
    (token(claims(nbf=None)), {}, {}, {MaaCheck.VALIDITY}),
    (token(claims()), {"tees": ["tdxvm"]}, {}, {MaaCheck.ISOLATION}),
    (token(claims({"x-ms-compliance-status": "azure-noncompliant"})), {}, {}, {MaaCheck.COMPLIANCE}),
    (token(claims({"x-ms-sevsnpvm-is-debuggable": True})), {}, {}, {MaaCheck.DEBUG}),
    (token(claims({"x-ms-sevsnpvm-is-debuggable": None})), {}, {}, {MaaCheck.DEBUG}),
    (token(claims(**{"x-ms-azurevm-bootdebug-enabled": True})), {}, {}, {MaaCheck.DEBUG}),
    (token(claims({"x-ms-sevsnpvm-migration-allowed": True})), {}, {}, {MaaCheck.MIGRATION}),
    (token(claims(secureboot=False)), {}, {}, {MaaCheck.SECURE_BOOT}),
    (token(claims(secureboot=None)), {}, {}, {MaaCheck.SECURE_BOOT}),
    (token(claims()), {"measurements": ["00" * 48]}, {}, {MaaCheck.MEASUREMENT}),
    (token(claims({"x-ms-sevsnpvm-microcode-svn": 114})), {}, {}, {MaaCheck.TCB}),
    (token(claims({"x-ms-sevsnpvm-guestsvn": "4"})), {}, {}, {MaaCheck.TCB}),
    (token(claims(**{"x-ms-policy-hash": "other"})), {}, {}, {MaaCheck.POLICY_HASH}),
    (token(claims()), {}, {"nonce": b"other"}, {MaaCheck.NONCE}),
    (token(claims()), {}, {"nonce": None}, {MaaCheck.NONCE}),
    (token(claims(**{"x-ms-runtime": {}})), {}, {}, {MaaCheck.NONCE}),
    (token(claims()), {}, {"runtime": {"keys": [{"kid": "other"}]}}, {MaaCheck.RUNTIME}),
]


@pytest.mark.parametrize(("text", "policy", "inputs", "expected"), REFUSED)
def test_each_check_refuses(
    text: str, policy: dict[str, Any], inputs: dict[str, Any], expected: set[MaaCheck]
) -> None:
    assert blocking(judge(text, rules(**policy), **inputs)) == expected


def test_without_isolation_nothing_is_known_of_a_tee() -> None:
    found = blocking(judge(token(claims(**{"x-ms-isolation-tee": None}))))
    assert {MaaCheck.ISOLATION, MaaCheck.COMPLIANCE, MaaCheck.DEBUG, MaaCheck.MEASUREMENT} <= found


@pytest.mark.parametrize(
    ("weakening", "text"),
    [
        ("allow_debug", token(claims({"x-ms-sevsnpvm-is-debuggable": True}))),
        ("allow_migration", token(claims({"x-ms-sevsnpvm-migration-allowed": True}))),
        ("allow_no_secure_boot", token(claims(secureboot=False))),
    ],
)
def test_each_weakening_is_spelled_out(weakening: str, text: str) -> None:
    assert not accepted(judge(text))
    assert accepted(judge(text, rules(**{weakening: True})))


def test_keys_of_another_kind_or_too_small_do_not_fit() -> None:
    assert not key_set([SMALL_KEYS])["one"].fits("RS256")
    assert not key_set([EC_KEYS])["three"].fits("RS256")
    assert not key_set([KEYS])["one"].fits("ES384")
    assert key_set([KEYS])["one"].fits("RS256")


def test_keys_given_as_certificates_and_key_sets_that_contradict_themselves() -> None:
    chain = [base64.b64encode(der(issue("MAA", KEY, authority=True))).decode()]
    only = json.dumps({"keys": [{"kty": "RSA", "kid": "one", "x5c": chain}]}).encode()
    assert accepted(judge(token(claims()), keys=only))
    contradictions: list[Any] = [
        {"keys": [jwk(OTHER, "one", x5c=chain)]},
        {"keys": [jwk(OTHER, "one"), jwk(KEY, "one")]},
        {"keys": [{"kty": "RSA", "kid": "one"}]},
        {"keys": [{"kty": "RSA", "kid": "one", "n": "AQAB", "e": "AQAB"}]},
        {"keys": [jwk(KEY, "one", x5c=["?"])]},
        {"keys": {}},
        [],
    ]
    for wrong in contradictions:
        with pytest.raises(MalformedEvidence):
            judge(token(claims()), keys=json.dumps(wrong).encode())


@pytest.mark.parametrize(
    "keys",
    [
        {"issuer": None},
        {"issuer": "http://example.attest.azure.net"},
        {"issuer": ISSUER + "/"},
        {"keys": None},
        {"trust_collateral_keys": True},
        {"tees": None},
        {"tees": ["sgx"]},
        {"compliance": None},
        {"measurements": None},
        {"allow_any_measurement": True},
        {"policy_hashes": None},
        {"minimum_svn": {"microcod": 1}},
        {"allow_debugging": True},
    ],
)
def test_policies_that_leave_something_open_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        rules(**keys)


def test_every_check_has_a_vector_that_it_refuses() -> None:
    refused = {check for entry in REFUSED for check in entry[-1]}
    assert set(MaaCheck) <= refused
