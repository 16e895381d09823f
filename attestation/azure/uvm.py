"""Endorsements of the utility VM that runs confidential containers: a COSE_Sign1 over JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from .. import certificates
from ..certificates import Certificate
from ..cose import CONTENT_TYPE, X5CHAIN, Sign1
from ..encoding import strict_json
from ..errors import MalformedEvidence

MAX_ENDORSEMENT = 128 * 1024
MAX_CHAIN = 8
MEASUREMENT = "x-ms-sevsnpvm-launchmeasurement"
GUEST_SVN = "x-ms-sevsnpvm-guestsvn"
_CWT_CLAIMS, _CWT_ISSUER, _CWT_SUBJECT, _CWT_ISSUED_AT = 15, 1, 2, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class UvmEndorsement:
    """Who endorsed which launch measurement. Parsed, not verified.

    `chain` is x5chain, signer first; `signed_at` is None if the endorsement does not say.
    """

    message: Sign1 = field(repr=False)
    issuer: str
    feed: str
    signed_at: datetime | None
    chain: tuple[Certificate, ...]
    measurement: bytes
    guest_svn: int

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The endorsement in `raw`; issuer and feed from named headers or CWT claims (RFC 9597)."""
        message = Sign1.from_bytes(raw, limit=MAX_ENDORSEMENT)
        headers = message.headers
        if headers.get(CONTENT_TYPE) != "application/json":
            raise MalformedEvidence("UVM endorsement whose payload is not JSON")
        cwt = headers.get(_CWT_CLAIMS, {})
        named = cwt if isinstance(cwt, dict) else {}
        payload = strict_json(message.payload, limit=MAX_ENDORSEMENT)
        if not isinstance(payload, dict):
            raise MalformedEvidence("UVM endorsement's payload is not a JSON object")
        return cls(
            message=message,
            issuer=_text(headers.get("iss", named.get(_CWT_ISSUER)), "issuer"),
            feed=_text(headers.get("feed", named.get(_CWT_SUBJECT)), "feed"),
            signed_at=_instant(headers.get("signingtime", named.get(_CWT_ISSUED_AT))),
            chain=_chain(headers.get(X5CHAIN)),
            measurement=_measurement(payload),
            guest_svn=_svn(payload),
        )


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise MalformedEvidence(f"UVM endorsement without {name}")
    return value


def _instant(value: Any) -> datetime | None:
    if value is None:
        return None
    if type(value) is not int:
        raise MalformedEvidence("UVM endorsement's signing time is no number of seconds")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError):
        raise MalformedEvidence(f"UVM endorsement's signing time {value}") from None


def _chain(value: Any) -> tuple[Certificate, ...]:
    items = value if isinstance(value, list) else [value]
    if not 1 <= len(items) <= MAX_CHAIN or not all(type(item) is bytes for item in items):
        raise MalformedEvidence("UVM endorsement without x5chain")
    return tuple(certificates.from_der(item) for item in items)


def _measurement(payload: Mapping[str, Any]) -> bytes:
    try:
        measurement = bytes.fromhex(_text(payload.get(MEASUREMENT), "a launch measurement"))
    except ValueError:
        raise MalformedEvidence("UVM endorsement's launch measurement is not hexadecimal") from None
    if len(measurement) != 48:
        raise MalformedEvidence(f"UVM endorsement's launch measurement of {len(measurement)} bytes")
    return measurement


def _svn(payload: Mapping[str, Any]) -> int:
    value = payload.get(GUEST_SVN)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        return int(value)
    if type(value) is int and 0 <= value < 2**32:
        return value
    raise MalformedEvidence("UVM endorsement without a security version")
