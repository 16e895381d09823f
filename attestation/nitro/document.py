"""AWS Nitro Enclaves attestation documents (attestation process, section 2.2): CBOR in a COSE_Sign1."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from .. import certificates
from ..certificates import Certificate
from ..cose import Sign1, decode
from ..errors import MalformedEvidence

MAX_DOCUMENT = 64 * 1024
MAX_BUNDLE = 16
MAX_FIELD = 1024
_PCR_SIZES = (32, 48, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroDocument:
    """What a Nitro hypervisor says of an enclave. Parsed, not verified.

    `pcrs` by index, unset ones zero; `timestamp` in UTC; `user_data`, `nonce` and `public_key` are
    the enclave's own choice, None if it gave none. `chain` is the bundle without the certificate.
    """

    message: Sign1 = field(repr=False)
    module_id: str
    digest: str
    timestamp: datetime
    pcrs: Mapping[int, bytes]
    certificate: Certificate
    chain: tuple[Certificate, ...]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The document in `raw`; MalformedEvidence if it breaks the syntax that section 3.2.2 asks for."""
        message = Sign1.from_bytes(raw, limit=MAX_DOCUMENT)
        # The Nitro module itself writes maps of indefinite length.
        fields = decode(message.payload, limit=MAX_DOCUMENT, indefinite=True)
        if not isinstance(fields, dict):
            raise MalformedEvidence("Nitro document is not a map")
        bundle = _of(fields, "cabundle", list)
        if not 1 <= len(bundle) <= MAX_BUNDLE:
            raise MalformedEvidence(f"Nitro document with {len(bundle)} certificates in its bundle")
        return cls(
            message=message,
            module_id=_of(fields, "module_id", str),
            digest=_digest(fields),
            timestamp=_timestamp(fields),
            pcrs=_pcrs(_of(fields, "pcrs", dict)),
            certificate=_certificate(_of(fields, "certificate", bytes)),
            chain=tuple(_certificate(item) for item in bundle),
            public_key=_optional(fields, "public_key"),
            user_data=_optional(fields, "user_data"),
            nonce=_optional(fields, "nonce"),
        )


def _of(fields: dict[Any, Any], name: str, kind: type) -> Any:
    value = fields.get(name)
    if type(value) is not kind or not value:
        raise MalformedEvidence(f"Nitro document: {name} is missing, empty or of another type")
    return value


def _digest(fields: dict[Any, Any]) -> str:
    digest = str(_of(fields, "digest", str))
    if digest != "SHA384":
        raise MalformedEvidence(f"Nitro document: digest {digest!r}")
    return digest


def _timestamp(fields: dict[Any, Any]) -> datetime:
    milliseconds = _of(fields, "timestamp", int)
    try:
        return datetime.fromtimestamp(milliseconds // 1000, UTC).replace(
            microsecond=milliseconds % 1000 * 1000
        )
    except (OverflowError, ValueError, OSError):
        raise MalformedEvidence(f"Nitro document: timestamp {milliseconds}") from None


def _pcrs(values: dict[Any, Any]) -> dict[int, bytes]:
    if len(values) > 32:
        raise MalformedEvidence("Nitro document with more than 32 registers")
    for index, value in values.items():
        if type(index) is not int or not 0 <= index < 32:
            raise MalformedEvidence("Nitro document with a register that does not exist")
        if type(value) is not bytes or len(value) not in _PCR_SIZES:
            raise MalformedEvidence(f"Nitro document: register {index} is of another size")
    return {index: values[index] for index in sorted(values)}


def _certificate(raw: Any) -> Certificate:
    if type(raw) is not bytes or not 1 <= len(raw) <= MAX_FIELD:
        raise MalformedEvidence("Nitro document: a certificate is of another type or size")
    return certificates.from_der(raw)


def _optional(fields: dict[Any, Any], name: str) -> bytes | None:
    value = fields.get(name)
    if value is not None and (type(value) is not bytes or len(value) > MAX_FIELD):
        raise MalformedEvidence(f"Nitro document: {name} is of another type or size")
    return value
