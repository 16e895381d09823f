"""EAR tokens: any JOSE library validates them, and nothing that did not pass is affirming."""

import hashlib
import hmac
import json
from datetime import datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey

from attestation import MalformedEvidence, Verdict
from attestation.ear import (
    EarKeyError,
    EarRefused,
    PrivateKey,
    key_id,
    parse_ear,
    policy_id,
    private_key,
    public_key,
    read_ear,
    sign_ear,
)
from attestation.ear_claims import CHECKS_CLAIM, PROFILE, VERDICT_CLAIM
from attestation.encoding import b64url_decode, b64url_encode
from attestation.snp.checks import SnpCheck
from attestation.trustworthiness import Tier

from .verdicts import NOW, verdict

NONCE = bytes(range(32))
DIGEST = bytes(32)
KEYS: dict[str, PrivateKey] = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
KEY = KEYS["ES256"]


def signed(value: Verdict | None = None, algorithm: str = "ES256", **changes: Any) -> str:
    given: dict[str, Any] = {
        "issuer": "verifier.example",
        "nonce": NONCE,
        "policy_digest": DIGEST,
        "now": NOW,
    }
    return sign_ear(value or verdict(), KEYS[algorithm], **given | changes)


def resigned(**changes: Any) -> str:
    """The token of an accepted verdict with top-level claims changed, or removed where None."""
    claims = jwt.decode(signed(), options={"verify_signature": False}) | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, KEY, algorithm="ES256", headers={"typ": "eat+jwt"})


@pytest.mark.parametrize("algorithm", KEYS)
def test_plain_pyjwt_validates_it(algorithm: str) -> None:
    public = KEYS[algorithm].public_key()
    claims = jwt.decode(
        signed(algorithm=algorithm),
        public,
        algorithms=[algorithm],
        issuer="verifier.example",
        options={"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "iss"]},
    )
    assert claims["eat_profile"] == PROFILE
    assert b64url_decode(claims["eat_nonce"]) == NONCE
    assert set(claims["submods"]) == {"bundle", "cpu0", "gpu0"}
    assert claims["ear_verifier_id"]["developer"] == "cloister"
    with pytest.raises(jwt.ExpiredSignatureError):  # its times lie in the past, and PyJWT sees them
        jwt.decode(signed(algorithm=algorithm), public, algorithms=[algorithm])


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # by RFC 9864, whose name PyJWT does not know yet
@pytest.mark.parametrize("algorithm", KEYS)
def test_a_second_library_validates_it(algorithm: str) -> None:
    pem = (
        KEYS[algorithm]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    key: ECKey | OKPKey = OKPKey.import_key(pem) if algorithm == "EdDSA" else ECKey.import_key(pem)
    found = jws.deserialize_compact(signed(algorithm=algorithm), key, algorithms=[algorithm])
    assert json.loads(found.payload)["submods"]["cpu0"]["ear_status"] == "affirming"
    assert found.protected["typ"] == "eat+jwt"
    assert found.protected["kid"] == key_id(KEYS[algorithm].public_key())


@pytest.mark.parametrize("algorithm", KEYS)
def test_what_is_signed_reads_back(algorithm: str) -> None:
    ear = read_ear(signed(algorithm=algorithm), KEYS[algorithm].public_key(), now=NOW, nonce=NONCE)
    assert ear.affirming and ear.status is Tier.AFFIRMING and ear.verdict == "ACCEPTED"
    assert (ear.issuer, ear.nonce, ear.issued_at) == ("verifier.example", NONCE, NOW)
    assert ear.expires_at == NOW + timedelta(minutes=30)
    cpu = ear.submods["cpu0"]
    assert cpu.policies == (policy_id(DIGEST),)
    assert cpu.vector == {"instance-identity": 2, "configuration": 2, "executables": 3, "hardware": 2}
    assert cpu.claims == {"measurement": "00"}
    assert {row["check"] for row in cpu.checks} == {str(check) for check in SnpCheck}


def test_it_never_outlives_the_verdict_nor_its_own_lifetime() -> None:
    def expiry(token: str) -> datetime:
        return parse_ear(token).expires_at

    assert expiry(signed(lifetime=timedelta(minutes=5))) == NOW + timedelta(minutes=5)
    assert expiry(signed(verdict(expires_at=None))) == NOW + timedelta(hours=1)
    rejected = verdict(cpu={"MEASUREMENT": False}, expires_at=NOW)
    assert expiry(signed(rejected)) == NOW + timedelta(hours=1)
    with pytest.raises(EarRefused, match="expired"):
        signed(now=NOW + timedelta(minutes=30))


@pytest.mark.parametrize("size", [7, 65])
def test_a_nonce_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="8 to 64"):
        signed(nonce=bytes(size))


def test_without_a_nonce_there_is_no_claim() -> None:
    assert parse_ear(signed(nonce=None)).nonce is None
    with pytest.raises(EarRefused, match="nonce"):
        read_ear(signed(nonce=None), KEY.public_key(), now=NOW, nonce=NONCE)


def test_other_keys_and_digests_are_refused() -> None:
    other: Any = rsa.generate_private_key(65537, 2048)
    with pytest.raises(EarKeyError):
        sign_ear(verdict(), other, issuer="x", nonce=None, policy_digest=DIGEST, now=NOW)
    with pytest.raises(EarKeyError):
        read_ear(signed(), ec.generate_private_key(ec.SECP521R1()).public_key(), now=NOW)
    with pytest.raises(ValueError, match="32"):
        signed(policy_digest=b"")
    with pytest.raises(ValueError, match="nothing"):
        signed(Verdict.of([], at=NOW))


def test_the_algorithm_is_the_keys_and_not_the_tokens() -> None:
    public = KEYS["ES256"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    payload = signed().split(".")[1]
    for forged_header in ({"alg": "none"}, {"alg": "HS256"}, {"alg": "ES384"}):
        head = b64url_encode(json.dumps(forged_header | {"typ": "eat+jwt"}).encode())
        mac = hmac.new(pem, f"{head}.{payload}".encode(), hashlib.sha256).digest()
        for tail in ("", b64url_encode(mac)):
            with pytest.raises(EarRefused):
                read_ear(f"{head}.{payload}.{tail}", public, now=NOW)
    with pytest.raises(EarRefused):
        read_ear(signed(), KEYS["ES384"].public_key(), now=NOW)
    with pytest.raises(EarRefused):
        read_ear(signed(), ec.generate_private_key(ec.SECP256R1()).public_key(), now=NOW)


@pytest.mark.parametrize("seconds", [-1, 1800])
def test_outside_its_time_it_is_refused(seconds: int) -> None:
    with pytest.raises(EarRefused, match="holds from"):
        read_ear(signed(), KEY.public_key(), now=NOW + timedelta(seconds=seconds))
    read_ear(
        signed(), KEY.public_key(), now=NOW + timedelta(seconds=seconds), leeway=timedelta(seconds=1)
    ) if seconds < 0 else None


def test_issuer_and_nonce_are_compared() -> None:
    read_ear(signed(), KEY.public_key(), now=NOW, issuer="verifier.example", nonce=NONCE)
    with pytest.raises(EarRefused, match="issued by"):
        read_ear(signed(), KEY.public_key(), now=NOW, issuer="other.example")
    with pytest.raises(EarRefused, match="nonce"):
        read_ear(signed(), KEY.public_key(), now=NOW, nonce=bytes(32))


SUBMODULE = {"ear_status": "affirming", "ear_trustworthiness_vector": {"hardware": 2}}
MALFORMED: list[dict[str, Any]] = [
    {"eat_profile": "tag:github.com,2023:veraison/ear"},
    {"eat_profile": None},
    {"exp": None},
    {"exp": 1767272400.5},
    {"exp": True},
    {"exp": 10**30},
    {"iat": None},
    {"iat": "1767272400"},
    {"ear_verifier_id": None},
    {"ear_verifier_id": {"developer": "cloister"}},
    {"ear_status": "trusted"},
    {"eat_nonce": 7},
    {"submods": None},
    {"submods": {}},
    {"submods": {"cpu0": "token"}},
    {"submods": {"cpu0": {}}},
    {"submods": {"cpu0": SUBMODULE | {"ear_trustworthiness_vector": {}}}},
    {"submods": {"cpu0": SUBMODULE | {"ear_trustworthiness_vector": {"hardware": 128}}}},
    {"submods": {"cpu0": SUBMODULE | {"ear_trustworthiness_vector": {"hardware": True}}}},
    {"submods": {"cpu0": SUBMODULE | {"ear_trustworthiness_vector": {"hardware": 96}}}},
    {"submods": {"cpu0": SUBMODULE | {"ear_trustworthiness_vector": {"hardware": 0}}}},
    {"submods": {"cpu0": SUBMODULE | {"ear_status": "warning"}}},  # and the whole says affirming
    {"submods": {"cpu0": SUBMODULE | {"ear_appraisal_policy_ids": "x"}}},
    {"submods": {"cpu0": SUBMODULE | {"ear_verifier_claims": {CHECKS_CLAIM: ["x"]}}}},
    {"submods": {"cpu0": SUBMODULE | {"ear_attester_claims": []}}},
]


@pytest.mark.parametrize("changes", MALFORMED, ids=[json.dumps(item)[:60] for item in MALFORMED])
def test_what_is_no_ear_is_malformed_even_if_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedEvidence):
        read_ear(resigned(**changes), KEY.public_key(), now=NOW)


def test_unknown_claims_are_ignored_and_other_verifiers_are_read() -> None:
    token = resigned(other={"x": 1}, iss=None, ear_status=None, **{VERDICT_CLAIM: None})
    ear = read_ear(token, KEY.public_key(), now=NOW)
    assert (ear.issuer, ear.verdict, ear.simulated, ear.status) == (None, None, False, Tier.AFFIRMING)


@given(st.text(max_size=80) | st.binary(max_size=80).map(b64url_encode))
def test_reading_is_total(text: str) -> None:
    for token in (text, f"{text}.{text}.{text}", signed()[: len(text)]):
        with pytest.raises((MalformedEvidence, EarRefused)):
            read_ear(token, KEY.public_key(), now=NOW)


def test_a_simulated_or_rejected_verdict_reads_back_as_what_it_is() -> None:
    simulated = read_ear(signed(verdict(simulated=True)), KEY.public_key(), now=NOW)
    assert simulated.simulated and not simulated.affirming and simulated.verdict == "SIMULATED"
    assert simulated.status is Tier.CONTRAINDICATED
    rejected = read_ear(signed(verdict(cpu={"MEASUREMENT": False})), KEY.public_key(), now=NOW)
    assert (rejected.verdict, rejected.status) == ("REJECTED", Tier.CONTRAINDICATED)
    assert not rejected.affirming and not rejected.submods["cpu0"].claims


@pytest.mark.parametrize("algorithm", KEYS)
def test_keys_are_read_from_pem(algorithm: str) -> None:
    key = KEYS[algorithm]
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert key_id(private_key(secret).public_key()) == key_id(public_key(public)) == key_id(key.public_key())
    with pytest.raises(EarKeyError):
        private_key(public)
    with pytest.raises(EarKeyError):
        public_key(secret)


def test_keys_of_other_kinds_are_refused_without_showing_them() -> None:
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    for other in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP521R1())):
        secret = other.private_bytes(serialization.Encoding.PEM, form, plain)
        with pytest.raises(EarKeyError) as caught:
            private_key(secret)
        assert "BEGIN" not in str(caught.value)
    locked = KEY.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"x"))
    for pem in (locked, b"", b"nonsense"):
        with pytest.raises(EarKeyError):
            private_key(pem)
        with pytest.raises(EarKeyError):
            public_key(pem)
