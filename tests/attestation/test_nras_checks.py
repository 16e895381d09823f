"""NRAS responses: the genuine cases, and for each check a vector that only it refuses."""

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.checks import CheckId
from attestation.collateral import Kind
from attestation.encoding import b64url_encode
from attestation.errors import PolicyError
from attestation.nras import NrasCheck, NrasDeviceCheck, NrasPolicy, NrasResponse, appraise
from attestation.verdict import Sheet
from tests.attestation import clouds
from tests.attestation.clouds import NOW, accepted, blocking, case, context, der, issue

ISSUER = "https://nras.attestation.nvidia.com"
STAGING = "https://nras.attestation-stg.nvidia.com"
CA_KEY, KEY, OTHER = (ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
CA = issue("Attestation Service", CA_KEY, authority=True)
LEAF = issue("signer", KEY, (CA.subject, CA_KEY))
CA_SPKI = CA.public_key().public_bytes(
    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
)
PIN = hashlib.sha256(CA_SPKI).hexdigest()
NONCE = bytes(range(32))
START = int(NOW.timestamp())


def jwk(key: ec.EllipticCurvePrivateKey, kid: str, *chain: Any) -> dict[str, Any]:
    point = key.public_key().public_numbers()
    x, y = (b64url_encode(value.to_bytes(48, "big")) for value in (point.x, point.y))
    x5c = [base64.b64encode(der(item)).decode() for item in chain]
    return {"kty": "EC", "crv": "P-384", "kid": kid, "x": x, "y": y, "x5c": x5c}


def key_set(*chain: Any) -> bytes:
    return json.dumps({"keys": [jwk(KEY, "one", *chain), jwk(OTHER, "two")]}).encode()


KEYS = key_set(LEAF, CA)
_RIM = ("fetched", "schema-validated", "signature-verified", "measurements-available", "cert-validated")
DEVICE: dict[str, Any] = {
    "iss": ISSUER,
    "nbf": START,
    "exp": START + 60,
    "eat_nonce": NONCE.hex(),
    "ueid": "1",
    "hwmodel": "GH100 A01 GSP BROM",
    "measres": "success",
    "secboot": True,
    "dbgstat": "disabled",
    "x-nvidia-attestation-warning": None,
    "x-nvidia-gpu-driver-version": "550.90.07",
    "x-nvidia-gpu-vbios-version": "96.00.9F.00.01",
    "x-nvidia-gpu-arch-check": True,
    "x-nvidia-gpu-attestation-report-parsed": True,
    "x-nvidia-gpu-attestation-report-nonce-match": True,
    "x-nvidia-gpu-attestation-report-signature-verified": True,
    "x-nvidia-gpu-attestation-report-cert-chain-validated": True,
    **{f"x-nvidia-gpu-{rim}-rim-{name}": True for rim in ("driver", "vbios") for name in _RIM},
}
CHAIN = {"x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "good"}


def token(claims: dict[str, Any], key: Any = KEY, kid: str = "one", algorithm: str = "ES384") -> str:
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})


def device(**changes: Any) -> dict[str, Any]:
    return DEVICE | changes


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in DEVICE.items() if name not in names}


def response(
    *devices: str, overall: dict[str, Any] | None = None, given: dict[str, str] | None = None, **signing: Any
) -> bytes:
    tokens = {f"GPU-{index}": text for index, text in enumerate(devices or (token(DEVICE),))}
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in tokens.items()}
    claims = {
        "sub": "NVIDIA-PLATFORM-ATTESTATION",
        "iss": ISSUER,
        "nbf": START,
        "exp": START + 60,
        "eat_nonce": NONCE.hex(),
        "x-nvidia-overall-att-result": True,
        "submods": {name: ["DIGEST", ["SHA-256", digest]] for name, digest in digests.items()},
    } | (overall or {})
    return json.dumps([["JWT", token(claims, **signing)], tokens if given is None else given]).encode()


def rules(**changes: Any) -> NrasPolicy:
    keys: dict[str, Any] = {
        "count": 1,
        "key_issuers": [PIN],
        "models": ["GH100"],
        "drivers": ["550.90.07"],
        "vbios": ["96.00.9F.00.01"],
    } | changes
    return clouds.parse(NrasPolicy, **{k: v for k, v in keys.items() if v is not None})  # type: ignore[no-any-return]


def judge(
    raw: bytes, policy: NrasPolicy | None = None, nonce: bytes | None = NONCE, keys: bytes | None = KEYS
) -> tuple[Sheet, ...]:
    collateral = {Kind.NVIDIA_NRAS_KEYS: (keys,)} if keys is not None else {}
    read = NrasResponse.from_bytes(raw)
    return appraise(read, context(NOW, collateral=collateral), policy or rules(), subject="gpu", nonce=nonce)


def genuine_sheets(genuine: clouds.Case, raw: bytes, **changes: Any) -> tuple[Sheet, ...]:
    read = NrasResponse.from_bytes(raw)
    keys: dict[str, Any] = {
        "count": max(len(read.devices), 1),
        "models": ["GH100", "LS10"],
        "key_issuers": None,
        "trust_collateral_keys": True,
        "drivers": None,
        "allow_any_driver": True,
        "vbios": None,
        "allow_any_vbios": True,
        "allow_missing_nonce": True,
    } | changes
    given_keys = genuine.read("jwks.json")
    collateral = {Kind.NVIDIA_NRAS_KEYS: (given_keys,)} if given_keys else {}
    nonce = genuine.input("expected_nonce")
    expected = bytes.fromhex(nonce) if nonce else None
    return appraise(
        read, context(genuine.at, collateral=collateral), rules(**keys), subject="gpu", nonce=expected
    )


@pytest.mark.parametrize(
    "name",
    ["v3-single-h100", "v3-fail-nonce-not-matching-8x", "sdk-sample-no-jwks", "switch-staging-issuer"],
)
def test_cases(name: str) -> None:
    genuine = case(f"nvidia-nras/{name}")
    sheets = genuine_sheets(genuine, genuine.must("nras_response.json"))
    assert accepted(*sheets) is genuine.passes, clouds.verdict(*sheets).summary()
    assert not clouds.missing_claims(genuine, *sheets)
    if name == "sdk-sample-no-jwks":
        assert blocking(*sheets) == {NrasCheck.KEY, NrasCheck.SIGNATURE, NrasDeviceCheck.SIGNATURE}
    if name == "switch-staging-issuer":
        assert {NrasCheck.ISSUER, NrasDeviceCheck.TOKEN} <= blocking(*sheets)
    if name == "v3-fail-nonce-not-matching-8x":
        assert NrasCheck.RESULT in blocking(*sheets) and clouds.established(*sheets)["devices"] == 8


def test_the_genuine_key_is_vouched_for_by_its_intermediate() -> None:
    genuine = case("nvidia-nras/v3-single-h100")
    raw = genuine.must("nras_response.json")
    pin = "00" * 32
    sheets = genuine_sheets(genuine, raw, trust_collateral_keys=None, key_issuers=[pin])
    assert blocking(*sheets) == {NrasCheck.KEY}


def test_our_own_response_is_accepted() -> None:
    assert accepted(*judge(response())), clouds.verdict(*judge(response())).summary()
    trusting = rules(key_issuers=None, trust_collateral_keys=True)
    assert accepted(*judge(response(), trusting, keys=key_set()))


def test_both_forms_of_the_claims_on_chains() -> None:
    prefixes = ("attestation-report-cert-chain", "driver-rim-cert-chain", "vbios-rim-cert-chain")
    newer = {f"x-nvidia-gpu-{name}": CHAIN for name in prefixes}
    older = (
        "attestation-report-cert-chain-validated",
        "driver-rim-cert-validated",
        "vbios-rim-cert-validated",
    )
    plain = without(*(f"x-nvidia-gpu-{name}" for name in older))
    assert not accepted(*judge(response(token(plain))))
    assert accepted(*judge(response(token(plain | newer))))
    for name in newer:
        for wrong in ({"x-nvidia-cert-ocsp-status": "revoked"}, {"x-nvidia-cert-status": "expired"}):
            bad = plain | newer | {name: CHAIN | wrong}
            assert len(blocking(*judge(response(token(bad))))) == 1


EXPIRED = issue("signer", KEY, (CA.subject, CA_KEY), start=NOW - timedelta(days=5))
FOREIGN = issue("signer", KEY, (CA.subject, OTHER))
TWO = (token(DEVICE), token(device(ueid="2")))
REFUSED: list[tuple[bytes, dict[str, Any], dict[str, Any], set[CheckId]]] = [
    (response(), {"ueids": ["7"]}, {}, {NrasDeviceCheck.DEVICE}),
    (response(kid="two"), {}, {}, {NrasCheck.KEY, NrasCheck.SIGNATURE, NrasDeviceCheck.SIGNATURE}),
    (response(), {}, {"keys": key_set(EXPIRED, CA)}, {NrasCheck.KEY}),
    (response(), {}, {"keys": key_set(FOREIGN, CA)}, {NrasCheck.KEY}),
    (response(), {}, {"keys": key_set()}, {NrasCheck.KEY}),
    (response(), {"key_issuers": ["00" * 32]}, {}, {NrasCheck.KEY}),
    (response(key=OTHER), {}, {}, {NrasCheck.SIGNATURE}),
    (response(overall={"iss": STAGING}), {}, {}, {NrasCheck.ISSUER}),
    (response(overall={"exp": START}), {}, {}, {NrasCheck.VALIDITY}),
    (response(overall={"nbf": START + 1}), {}, {}, {NrasCheck.VALIDITY}),
    (response(overall={"exp": None}), {}, {}, {NrasCheck.VALIDITY}),
    (response(overall={"x-nvidia-overall-att-result": False}), {}, {}, {NrasCheck.RESULT}),
    (response(overall={"x-nvidia-overall-att-result": 1}), {}, {}, {NrasCheck.RESULT}),
    (response(overall={"sub": "other"}), {}, {}, {NrasCheck.RESULT}),
    (response(), {}, {"nonce": bytes(32)}, {NrasCheck.NONCE}),
    (response(), {}, {"nonce": None}, {NrasCheck.NONCE}),
    (response(overall={"submods": {}}), {}, {}, {NrasCheck.SUBMODULES}),
    (response(overall={"submods": {"GPU-0": ["DIGEST", ["SHA-1", "00"]]}}), {}, {}, {NrasCheck.SUBMODULES}),
    (response(given={"GPU-1": token(DEVICE)}), {}, {}, {NrasCheck.SUBMODULES}),
    (response(*TWO, given={"GPU-0": TWO[0]}), {}, {}, {NrasCheck.SUBMODULES}),
    (response(*TWO), {}, {}, {NrasCheck.DEVICES}),
    (response(), {"count": 2}, {}, {NrasCheck.DEVICES}),
    (response(TWO[0], token(device(jti="x"))), {"count": 2}, {}, {NrasCheck.DISTINCT}),
    (response(token(without("ueid"))), {}, {}, {NrasCheck.DISTINCT}),
    (response(token(DEVICE, OTHER)), {}, {}, {NrasDeviceCheck.SIGNATURE}),
    (response(token(DEVICE, OTHER, "two")), {}, {}, {NrasDeviceCheck.SIGNATURE}),
    (response(token(device(iss=STAGING))), {}, {}, {NrasDeviceCheck.TOKEN}),
    (response(token(device(exp=START))), {}, {}, {NrasDeviceCheck.TOKEN}),
    (response(token(device(eat_nonce="00"))), {}, {}, {NrasDeviceCheck.NONCE}),
    (response(token(device(measres="fail"))), {}, {}, {NrasDeviceCheck.MEASUREMENTS}),
    (response(token(without("measres"))), {}, {}, {NrasDeviceCheck.MEASUREMENTS}),
    (response(token(device(secboot=1))), {}, {}, {NrasDeviceCheck.SECURE_BOOT}),
    (response(token(device(dbgstat="enabled"))), {}, {}, {NrasDeviceCheck.DEBUG}),
    (response(token(device(**{"x-nvidia-attestation-warning": "hm"}))), {}, {}, {NrasDeviceCheck.WARNING}),
    (response(token(device(hwmodel="GB100"))), {}, {}, {NrasDeviceCheck.MODEL}),
    (response(), {"drivers": ["1"]}, {}, {NrasDeviceCheck.DRIVER}),
    (response(), {"vbios": ["1"]}, {}, {NrasDeviceCheck.VBIOS}),
    (response(token(device(**{"x-nvidia-error-details": {}}))), {}, {}, {NrasDeviceCheck.REPORT}),
]


@pytest.mark.parametrize(("raw", "policy", "inputs", "expected"), REFUSED)
def test_each_check_refuses(
    raw: bytes, policy: dict[str, Any], inputs: dict[str, Any], expected: set[CheckId]
) -> None:
    assert blocking(*judge(raw, rules(**policy), **inputs)) == expected


@pytest.mark.parametrize("name", [name for name, value in DEVICE.items() if value is True])
def test_each_flag_of_a_device_must_be_true(name: str) -> None:
    for claims in (without(name), device(**{name: False})):
        assert len(blocking(*judge(response(token(claims))))) == 1


def test_a_warning_is_accepted_only_where_the_policy_says_so() -> None:
    raw = response(token(device(**{"x-nvidia-attestation-warning": "hm"})))
    assert accepted(*judge(raw, rules(allow_warnings=True)))


def test_an_algorithm_other_than_es384_is_refused() -> None:
    raw = response(key=b"k" * 64, algorithm="HS256")
    assert blocking(*judge(raw)) == {NrasCheck.SIGNATURE}
    assert NrasCheck.SIGNATURE in blocking(*judge(response(key=None, algorithm="none")))


@pytest.mark.parametrize(
    "keys",
    [
        {"count": None},
        {"count": 0},
        {"key_issuers": None},
        {"trust_collateral_keys": True},
        {"models": None},
        {"drivers": None},
        {"allow_any_vbios": True},
        {"issuer": STAGING},
    ],
)
def test_policies_that_leave_something_open_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        rules(**keys)


def test_every_check_has_a_vector_that_it_refuses() -> None:
    refused = {check for entry in REFUSED for check in entry[-1]}
    # The manifests' flags are refused one by one above.
    assert set(NrasCheck) | set(NrasDeviceCheck) <= refused | {NrasDeviceCheck.RIMS}


def test_a_listed_device_passes_and_without_a_list_any_does() -> None:
    assert accepted(*judge(response(), rules(ueids=["1", "7"])))
    checked = {result.check for sheet in judge(response()) for result in sheet.results()}
    assert NrasDeviceCheck.DEVICE not in checked
