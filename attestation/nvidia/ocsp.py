"""Certificate status from OCSP responses (RFC 6960) given as collateral."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import Enum
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from .chain import ERRORS, Certificate

MAX_RESPONSE = 32 * 1024
MAX_RESPONDERS = 4

_HASHES = (hashes.SHA1, hashes.SHA256, hashes.SHA384, hashes.SHA512)


class Status(Enum):
    """What the responses say of one certificate, the worst first."""

    REVOKED = "revoked"
    HOLD = "on hold"
    MISSING = "without a current status"
    GOOD = "good"


def status(
    certificate: Certificate, issuer: Certificate, responses: Iterable[bytes], now: datetime
) -> Status:
    """The status of `certificate` at `now`, of the responses that its issuer stands behind.

    A revocation holds from its time on, however old the response; hold and good only while the
    response is current. What does not parse, or is signed by another, says nothing.
    """
    found = {_said(answer, now) for answer in _answers(certificate, issuer, responses, now)}
    if not found:
        return Status.MISSING
    return next(
        (worst for worst in (Status.REVOKED, Status.HOLD, Status.GOOD) if worst in found), Status.MISSING
    )


def _said(answer: ocsp.OCSPSingleResponse, now: datetime) -> Status:
    if answer.this_update_utc > now:
        return Status.MISSING
    until = answer.next_update_utc
    current = until is not None and now <= until
    match answer.certificate_status, answer.revocation_reason:
        case ocsp.OCSPCertStatus.REVOKED, x509.ReasonFlags.certificate_hold:
            return Status.HOLD if current else Status.MISSING
        case ocsp.OCSPCertStatus.REVOKED, _:
            return Status.REVOKED
        case ocsp.OCSPCertStatus.GOOD, _ if current:
            return Status.GOOD
    return Status.MISSING


def _answers(
    certificate: Certificate, issuer: Certificate, responses: Iterable[bytes], now: datetime
) -> Iterator[ocsp.OCSPSingleResponse]:
    """Single responses about `certificate` in responses signed for `issuer`."""
    for raw in responses:
        response = _response(raw)
        if response is None:
            continue
        answers = [item for item in response.responses if _about(item, certificate, issuer)]
        if answers and _authentic(response, issuer, now):
            yield from answers


@lru_cache(maxsize=64)
def _response(raw: bytes) -> ocsp.OCSPResponse | None:
    """The successful response in `raw`; None if it is none, or does not parse."""
    if len(raw) > MAX_RESPONSE:
        return None
    try:
        response = ocsp.load_der_ocsp_response(raw)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return None
        # Reading everything here means that nothing raises later.
        for item in response.responses:
            _ = item.hash_algorithm, item.certificate_status, item.revocation_reason
            _ = item.this_update_utc, item.next_update_utc
        _ = response.certificates, response.signature_hash_algorithm, response.responder_name
    except ERRORS:
        return None
    return response


def _about(answer: ocsp.OCSPSingleResponse, certificate: Certificate, issuer: Certificate) -> bool:
    """Whether the CertID (RFC 6960, 4.1.1) is that of `certificate` under `issuer`."""
    algorithm = answer.hash_algorithm
    if answer.serial_number != certificate.frame.serial or not isinstance(algorithm, _HASHES):
        return False
    names = _digest(algorithm, issuer.frame.subject) == answer.issuer_name_hash
    return names and _digest(algorithm, _key_bits(issuer.key)) == answer.issuer_key_hash


def _authentic(response: ocsp.OCSPResponse, issuer: Certificate, now: datetime) -> bool:
    """Whether the issuer, or a responder that it certified for this, signed (RFC 6960, 4.2.2.2)."""
    if _named(response, issuer.frame.subject, issuer.key) and _signed_by(response, issuer.key):
        return True
    delegates = response.certificates[:MAX_RESPONDERS]
    return any(
        _named(response, *named) and _delegated(each, issuer, now) and _signed_by(response, named[1])
        for each in delegates
        if (named := _subject(each)) is not None
    )


def _subject(responder: x509.Certificate) -> tuple[bytes, PublicKeyTypes] | None:
    """Name and key of a delegated responder; None if they do not parse."""
    try:
        return responder.subject.public_bytes(), responder.public_key()
    except ERRORS:
        return None


def _named(response: ocsp.OCSPResponse, subject: bytes, key: PublicKeyTypes) -> bool:
    try:
        if response.responder_key_hash is not None:
            return _digest(hashes.SHA1(), _key_bits(key)) == response.responder_key_hash  # noqa: S303
        name = response.responder_name
        return name is not None and name.public_bytes() == subject
    except ERRORS:
        return False


def _delegated(responder: x509.Certificate, issuer: Certificate, now: datetime) -> bool:
    try:
        usage = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        responder.verify_directly_issued_by(issuer.parsed)
        current = responder.not_valid_before_utc <= now <= responder.not_valid_after_utc
    except (*ERRORS, InvalidSignature):
        return False
    return current and ExtendedKeyUsageOID.OCSP_SIGNING in usage


def _signed_by(response: ocsp.OCSPResponse, key: PublicKeyTypes) -> bool:
    algorithm = response.signature_hash_algorithm
    if not isinstance(algorithm, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        return False
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(algorithm))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(response.signature, response.tbs_response_bytes, padding.PKCS1v15(), algorithm)
        else:
            return False
    except (*ERRORS, InvalidSignature):
        return False
    return True


def _key_bits(key: PublicKeyTypes) -> bytes:
    """The content of the subjectPublicKey BIT STRING."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)


def _digest(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(data)
    return digest.finalize()
