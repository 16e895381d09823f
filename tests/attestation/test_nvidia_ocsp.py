"""Certificate status: good, revoked, on hold, missing, stale, and who may say so."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.nvidia import appraise
from attestation.verdict import Outcome, Sheet

from .nvidia import accepted, case, context, outcome, policy, result
from .nvidia_maker import NAMES, NONCE, NOW, START, Device, Party, issue

DEVICE = Device()
HOUR = timedelta(hours=1)
REVOKED = ocsp.OCSPCertStatus.REVOKED
HOLD = x509.ReasonFlags.certificate_hold
GOOD = [DEVICE.ocsp(depth) for depth in (1, 2, 3)]


def judge(responses: list[bytes], **rules: Any) -> Sheet:
    """The sheet of a device with these status responses."""
    rules = {"allow_missing_ocsp": False} | rules
    around = context(policy(DEVICE.roots, **rules), NOW, ocsp=responses)
    return appraise(DEVICE.report(), DEVICE.chain, around, subject="gpu0", nonce=NONCE)


def status(responses: list[bytes], **rules: Any) -> Outcome:
    """How the status check ended."""
    return outcome(judge(responses, **rules), "nvidia.ocsp")


def responder(usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.OCSP_SIGNING, **facts: Any) -> Party:
    """A responder certified by the issuer of the certificate at depth 2."""
    extra = (x509.ExtendedKeyUsage([usage]),) if usage else ()
    return issue("responder", DEVICE.parties[1], authority=False, extra=extra, **facts)


def test_good_responses_for_all_between_leaf_and_root_pass() -> None:
    assert accepted(judge(GOOD), at=NOW)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_response_is_unevaluable_unless_allowed(missing: int) -> None:
    rest = [item for index, item in enumerate(GOOD) if index != missing]
    sheet = judge(rest)
    assert outcome(sheet, "nvidia.ocsp") is Outcome.UNEVALUABLE
    assert NAMES[missing + 1] in result(sheet, "nvidia.ocsp").found
    assert not accepted(sheet, at=NOW)
    assert accepted(judge(rest, allow_missing_ocsp=True), at=NOW)


def test_a_revocation_fails_even_where_status_may_be_missing() -> None:
    revoked = DEVICE.ocsp(3, REVOKED, reason=x509.ReasonFlags.key_compromise)
    assert status([*GOOD[:2], revoked]) is Outcome.FAIL
    assert status([revoked], allow_missing_ocsp=True) is Outcome.FAIL
    assert status([*GOOD, revoked]) is Outcome.FAIL


def test_a_revocation_outlives_its_response() -> None:
    old = DEVICE.ocsp(3, REVOKED, this_update=START, next_update=START + HOUR)
    assert status([*GOOD, old]) is Outcome.FAIL


def test_hold_fails_unless_allowed() -> None:
    held = [*GOOD[:2], DEVICE.ocsp(3, REVOKED, reason=HOLD)]
    assert status(held) is Outcome.FAIL
    assert status(held, allow_hold=True) is Outcome.PASS
    assert status([*GOOD[:2], DEVICE.ocsp(3, REVOKED)], allow_hold=True) is Outcome.FAIL


@pytest.mark.parametrize(
    "facts",
    [
        {"this_update": START, "next_update": NOW - HOUR},
        {"this_update": NOW + HOUR},
        {"next_update": None},
        {"status": ocsp.OCSPCertStatus.UNKNOWN},
        {"status": REVOKED, "reason": HOLD, "this_update": START, "next_update": NOW - HOUR},
    ],
)
def test_a_response_that_is_not_current_or_not_good_says_nothing(facts: dict[str, Any]) -> None:
    assert status([*GOOD[:2], DEVICE.ocsp(3, **facts)]) is Outcome.UNEVALUABLE


def test_a_responder_that_the_issuer_certified_counts() -> None:
    assert status([GOOD[0], GOOD[2], DEVICE.ocsp(2, signer=responder())]) is Outcome.PASS


@pytest.mark.parametrize(
    "signer",
    [
        lambda: responder(None),
        lambda: responder(ExtendedKeyUsageOID.CLIENT_AUTH),
        lambda: responder(end=NOW - HOUR),
        lambda: issue("responder", DEVICE.parties[0], authority=False),
        lambda: issue("responder", None),
        lambda: DEVICE.parties[4],
    ],
    ids=["no-usage", "other-usage", "expired", "other-issuer", "self-signed", "the-leaf"],
)
def test_another_signer_says_nothing(signer: Callable[[], Party]) -> None:
    assert status([GOOD[0], GOOD[2], DEVICE.ocsp(2, signer=signer())]) is Outcome.UNEVALUABLE


def twin(of: Party, key: ec.EllipticCurvePrivateKey, by: Party | None = None) -> Party:
    """A certificate under the name of `of` for `key`: what an impostor calls himself by."""
    mine = of.certificate
    builder = x509.CertificateBuilder(mine.issuer, mine.subject, key.public_key(), 77)
    builder = builder.not_valid_before(mine.not_valid_before_utc).not_valid_after(mine.not_valid_after_utc)
    return Party(builder.sign(by.key if by else key, hashes.SHA384()), key)


def by_name(signer: Party, *, issuer: Party = DEVICE.parties[1], along: tuple[Party, ...] = ()) -> bytes:
    """A good response about the party at depth 2, whose responder is told by the name of `signer`."""
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=DEVICE.parties[2].certificate,
        issuer=issuer.certificate,
        algorithm=hashes.SHA384(),
        cert_status=ocsp.OCSPCertStatus.GOOD,
        this_update=NOW,
        next_update=NOW + HOUR,
        revocation_time=None,
        revocation_reason=None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.NAME, signer.certificate)
    if along:
        builder = builder.certificates([each.certificate for each in along])
    return builder.sign(signer.key, hashes.SHA384()).public_bytes(serialization.Encoding.DER)


def test_a_name_alone_makes_no_responder() -> None:
    """The key must be the issuer's, or one that it certified for this."""
    issuer, delegate, stranger = DEVICE.parties[1], responder(), ec.generate_private_key(ec.SECP384R1())
    for genuine, along in ((issuer, ()), (delegate, (delegate,))):
        assert status([GOOD[0], GOOD[2], by_name(genuine, along=along)]) is Outcome.PASS
        impostor = twin(genuine, stranger)
        for brought in (along, (impostor,), (*along, impostor)):
            said = by_name(impostor, along=brought)
            assert status([GOOD[0], GOOD[2], said]) is Outcome.UNEVALUABLE


def test_the_issuer_answers_under_its_own_name() -> None:
    issuer = DEVICE.parties[1]
    other = twin(DEVICE.parties[2], issuer.key, by=issuer)
    assert status([GOOD[0], GOOD[2], by_name(other)]) is Outcome.UNEVALUABLE


def test_an_answer_about_a_namesakes_certificate_says_nothing() -> None:
    """The same serial number and issuer's name, under another key."""
    issuer = DEVICE.parties[1]
    namesake = twin(issuer, ec.generate_private_key(ec.SECP384R1()))
    assert status([GOOD[0], GOOD[2], by_name(issuer, issuer=namesake)]) is Outcome.UNEVALUABLE


def test_another_devices_response_says_nothing() -> None:
    other = Device(above=DEVICE.parties[:2])
    assert status([*GOOD[:1], other.ocsp(2), other.ocsp(3)]) is Outcome.UNEVALUABLE


def test_an_altered_response_says_nothing() -> None:
    raw = bytearray(GOOD[2])
    raw[-1] ^= 1
    assert status([*GOOD[:2], bytes(raw)]) is Outcome.UNEVALUABLE


@settings(deadline=None)
@given(st.data())
def test_changed_responses_are_never_better_than_none(data: st.DataObject) -> None:
    raw = bytearray(GOOD[2])
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    assert status([*GOOD[:2], bytes(raw)]) in (Outcome.UNEVALUABLE, Outcome.PASS)
    assert status([*GOOD[:2], data.draw(st.binary(max_size=64))]) is Outcome.UNEVALUABLE


def test_an_oversized_response_says_nothing() -> None:
    assert status([*GOOD[:2], bytes(40_000)]) is Outcome.UNEVALUABLE


def test_a_genuine_device_without_responses_needs_the_policys_word() -> None:
    found = case("nvidia-gpu/h100-550")
    for allowed in (True, False):
        around = context(policy(allow_missing_ocsp=allowed), found.at)
        sheet = appraise(found.report, found.chain, around, subject="gpu0", nonce=found.nonce)
        assert accepted(sheet, at=found.at) is allowed
