"""TPM quotes: for each check a vector that only it refuses."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.errors import MalformedEvidence, PolicyError
from attestation.tpm import (
    PcrSelection,
    Public,
    Quote,
    TpmCheck,
    TpmEvidence,
    TpmPolicy,
    appraise,
)
from attestation.verdict import Sheet
from tests.attestation import clouds
from tests.attestation.clouds import NOW, accepted, blocking, context, custom_roots, der, flipped, issue

NONCE = b"a nonce of the verifier's choice"
VALUES = {index: bytes([index]) * 32 for index in range(24)}
CA_KEY = ec.generate_private_key(ec.SECP384R1())
CA = issue("Test TPM CA", CA_KEY, authority=True, days=900)
AK = rsa.generate_private_key(public_exponent=65537, key_size=2048)
AK_CERTIFICATE = issue("AK", AK, (CA.subject, CA_KEY))
ATTRIBUTES = 0x00050072  # restricted, sign, userWithAuth, sensitiveDataOrigin, fixedParent, fixedTPM


def rules(**changes: Any) -> TpmPolicy:
    keys: dict[str, Any] = {
        "ak_vendors": ["google"],
        "banks": ["sha256"],
        "pcrs": {"sha256": {"4": [VALUES[4].hex()]}},
        "event_log": "ignored",
    }
    keys |= changes
    return clouds.parse(TpmPolicy, **{k: v for k, v in keys.items() if v is not None})  # type: ignore[no-any-return]


def quote(**changes: Any) -> Quote:
    fields: dict[str, Any] = {
        "qualified_signer": b"\x00\x0b" + bytes(32),
        "extra_data": NONCE,
        "clock": 1,
        "reset_count": 2,
        "restart_count": 3,
        "safe": True,
        "firmware_version": 4,
        "selections": (PcrSelection(0x000B, b"\xff\xff\xff"),),
        "pcr_digest": hashlib.sha256(b"".join(VALUES.values())).digest(),
    }
    return Quote(**(fields | changes))


def public(attributes: int = ATTRIBUTES, key: rsa.RSAPrivateKey = AK) -> Public:
    modulus = key.public_key().public_numbers().n.to_bytes(256, "big")
    return Public(
        kind=1,
        name_algorithm=11,
        attributes=attributes,
        auth_policy=b"",
        symmetric=(16,),
        scheme=(0x14, 11),
        parameters=(2048, 0),
        unique=(modulus,),
    )


def signed(message: bytes, key: rsa.RSAPrivateKey = AK) -> tuple[bytes, bytes]:
    return message, key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def evidence(**changes: Any) -> TpmEvidence:
    parts: dict[str, Any] = {
        "quotes": [signed(quote().to_bytes())],
        "public": public().to_bytes(),
        "certificates": [der(AK_CERTIFICATE)],
        "pcrs": {"sha256": VALUES},
    }
    return TpmEvidence.from_parts(**(parts | changes))


def judge(
    given: TpmEvidence, policy: TpmPolicy | None = None, nonce: bytes | None = NONCE, ca: Any = CA
) -> Sheet:
    surroundings = context(NOW, roots=custom_roots("google", ca))
    return appraise(given, surroundings, policy or rules(), subject="tpm0", nonce=nonce)


def test_our_own_evidence_is_accepted() -> None:
    sheet = judge(evidence())
    assert accepted(sheet), clouds.verdict(sheet).summary()
    assert accepted(judge(evidence(public=None)))
    assert sheet.claims["tpm_reset_count"] == 2


OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
MIDDLE_KEY = ec.generate_private_key(ec.SECP384R1())


def _altered_pcr() -> dict[str, Any]:
    return {"pcrs": {"sha256": VALUES | {9: bytes(32)}}}


REFUSED = [
    ({"quotes": [signed(quote().to_bytes(), OTHER)]}, {}, {TpmCheck.QUOTE_SIGNATURE}),
    ({"quotes": [signed(quote(extra_data=b"other").to_bytes())]}, {}, {TpmCheck.QUOTE_NONCE}),
    ({"quotes": [signed(quote(extra_data=b"").to_bytes())]}, {}, {TpmCheck.QUOTE_NONCE}),
    (_altered_pcr(), {}, {TpmCheck.PCR_DIGEST}),
    ({"pcrs": {}}, {}, {TpmCheck.PCR_DIGEST, TpmCheck.PCR_VALUES}),
    ({}, {"pcrs": {"sha256": {"4": ["00" * 32]}}}, {TpmCheck.PCR_VALUES}),
    ({}, {"banks": ["sha384"]}, {TpmCheck.QUOTE_BANKS}),
    ({}, {"ak_keys": ["00" * 32]}, {TpmCheck.AK_PINNED}),
    ({}, {"event_log": "required"}, {TpmCheck.EVENT_LOG}),
    ({"public": public(ATTRIBUTES & ~(1 << 16)).to_bytes()}, {}, {TpmCheck.AK_ATTRIBUTES}),
    ({"public": public(ATTRIBUTES | 1 << 17).to_bytes()}, {}, {TpmCheck.AK_ATTRIBUTES}),
    (
        {"certificates": [der(issue("AK", OTHER, (CA.subject, CA_KEY)))]},
        {},
        {TpmCheck.AK_CERTIFICATE},
    ),
    (
        {"certificates": [der(issue("AK", AK, (CA.subject, CA_KEY), signs=False))]},
        {},
        {TpmCheck.AK_CERTIFICATE},
    ),
    (
        {"certificates": [der(issue("AK", AK, (CA.subject, CA_KEY), start=NOW + timedelta(days=1)))]},
        {},
        {TpmCheck.AK_VALIDITY},
    ),
    (
        {"certificates": [der(issue("AK", AK, (CA.subject, CA_KEY), critical=True))]},
        {},
        {TpmCheck.AK_CHAIN},
    ),
    (
        {"certificates": [der(issue("AK", AK, (CA.subject, MIDDLE_KEY)))]},
        {},
        {TpmCheck.AK_CHAIN, TpmCheck.AK_VALIDITY},
    ),
    (
        {"certificates": []},
        {},
        {TpmCheck.AK_CHAIN, TpmCheck.AK_VALIDITY, TpmCheck.AK_CERTIFICATE},
    ),
]


@pytest.mark.parametrize(("parts", "policy", "expected"), REFUSED)
def test_each_check_refuses(parts: dict[str, Any], policy: dict[str, Any], expected: set[TpmCheck]) -> None:
    assert blocking(judge(evidence(**parts), rules(**policy))) == expected


def test_a_pinned_attestation_key_is_accepted() -> None:
    """Keys are pinned by the SHA-256 of their SubjectPublicKeyInfo."""
    spki = AK.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    sheet = judge(evidence(), rules(ak_keys=[hashlib.sha256(spki).hexdigest()]))
    assert accepted(sheet)
    assert sheet.passed(TpmCheck.AK_PINNED)


def test_no_quote_at_all_is_refused_unless_spelled_out() -> None:
    sheet = judge(evidence(quotes=[]))
    assert {TpmCheck.QUOTE_SIGNATURE, TpmCheck.QUOTE_BANKS, TpmCheck.PCR_DIGEST} <= blocking(sheet)
    waived = rules(banks=None, allow_missing_quote=True)
    assert accepted(judge(evidence(quotes=[]), waived, nonce=None))
    assert blocking(judge(evidence(quotes=[]), waived)) == {TpmCheck.QUOTE_NONCE}  # a nonce is not forgotten


def test_without_a_nonce_the_check_is_unevaluable() -> None:
    assert blocking(judge(evidence(), nonce=None)) == {TpmCheck.QUOTE_NONCE}
    assert accepted(judge(evidence(), rules(allow_missing_nonce=True), nonce=None))


def test_a_path_longer_than_an_authority_allows_is_refused() -> None:
    ca = issue("Short CA", CA_KEY, authority=True, path_length=0)
    middle = issue("Middle", MIDDLE_KEY, (ca.subject, CA_KEY), authority=True)
    leaf = issue("AK", AK, (middle.subject, MIDDLE_KEY))
    given = evidence(certificates=[der(leaf), der(middle)])
    assert blocking(judge(given, ca=ca)) == {TpmCheck.AK_CHAIN}
    assert accepted(judge(given, ca=issue("Short CA", CA_KEY, authority=True, path_length=1)))


def test_an_intermediate_that_is_no_authority_makes_no_path() -> None:
    middle = issue("Middle", MIDDLE_KEY, (CA.subject, CA_KEY))
    leaf = issue("AK", AK, (middle.subject, MIDDLE_KEY))
    assert TpmCheck.AK_CHAIN in blocking(judge(evidence(certificates=[der(leaf), der(middle)])))


def test_ecdsa_and_pss_signatures_verify() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = der(issue("AK", key, (CA.subject, CA_KEY)))
    message = quote().to_bytes()
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    raw = b"".join(b"\0\x20" + number.to_bytes(32, "big") for number in (r, s))
    given = evidence(quotes=[(message, b"\0\x18\0\x0b" + raw)], public=None, certificates=[leaf])
    assert accepted(judge(given))
    pss = AK.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    assert accepted(judge(evidence(quotes=[(message, b"\0\x16\0\x0b\x01\0" + pss)])))


def test_sha1_signatures_are_refused() -> None:
    message = quote().to_bytes()
    weak = AK.sign(message, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
    given = evidence(quotes=[(message, b"\0\x14\0\x04\x01\0" + weak)])
    assert blocking(judge(given)) == {TpmCheck.QUOTE_SIGNATURE, TpmCheck.PCR_DIGEST}


def test_no_byte_of_a_quote_can_change() -> None:
    message, signature = signed(quote().to_bytes())
    for index in range(len(message)):
        try:
            assert not accepted(judge(evidence(quotes=[(flipped(message, index), signature)]))), index
        except MalformedEvidence:
            continue


@pytest.mark.parametrize(
    "keys",
    [
        {"ak_vendors": []},
        {"ak_vendors": None},
        {"allow_untrusted_ak": True},
        {"ak_vendors": ["gogle"]},
        {"banks": []},
        {"banks": ["sha1"]},
        {"pcrs": None},
        {"allow_any_pcrs": True},
        {"pcrs": {}},
        {"pcrs": {"sha256": {}}},
        {"pcrs": {"sha256": {"24": ["00" * 32]}}},
        {"pcrs": {"sha256": {"4": []}}},
        {"event_log": None},
        {"event_logs": "ignored"},
    ],
)
def test_policies_that_leave_something_open_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        rules(**keys)


def test_every_check_has_a_vector_that_it_refuses() -> None:
    refused = {check for entry in REFUSED for check in entry[-1]}
    assert set(TpmCheck) <= refused
