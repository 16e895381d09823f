"""Receipts: what an attested worker signs about one answer, without its contents (docs/spec/receipts.md).

The bodies of request and response are committed to by HMAC-SHA-256 under two salts of 32 bytes that only the
client gets. Whoever is shown a body and its salt can check it; whoever sees the receipt alone learns
nothing of either.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from . import cose, documents
from .bhttp import Fields
from .errors import MalformedDocument, MalformedMessage

CONTENT_TYPE: Final = "application/vnd.cloister.receipt+json"
FORMAT: Final = "cloister/receipt/v1"
SALTS_FORMAT: Final = "cloister/receipt-salts/v1"
MAX_RECEIPT: Final = 16 * 1024
SALT_SIZE: Final = 32
DIGEST_SIZE: Final = 32
MAX_TIME: Final = 1 << 37  # within what every calendar of the language holds
PERIOD: Final = 3600
"""Seconds that a worker's evidence about itself speaks for; periods begin at whole hours, UTC."""

ASKED: Final = b"cloister-receipt"
"""The request's field that asks for a receipt; its value is K, in base64url: the keyset that shall sign."""
RECEIPT: Final = b"cloister-receipt"
SALTS: Final = b"cloister-receipt-salts"
"""The answer's trailers: the signed receipt and its salts, in base64url."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Salts:
    """The two keys of a receipt's commitments, 32 bytes each: the client's alone."""

    request: bytes = field(repr=False)
    response: bytes = field(repr=False)

    @classmethod
    def fresh(cls) -> Self:
        """Random ones."""
        return cls(request=secrets.token_bytes(SALT_SIZE), response=secrets.token_bytes(SALT_SIZE))

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return documents.encode(
            {
                "format": SALTS_FORMAT,
                "request": documents.b64url(self.request),
                "response": documents.b64url(self.response),
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The salts in `raw`. Raises MalformedDocument."""
        members = documents.decode(raw, "salts", limit=512)
        members.exactly("format", SALTS_FORMAT)
        salts = cls(
            request=members.octets("request", SALT_SIZE), response=members.octets("response", SALT_SIZE)
        )
        members.end()
        return salts


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A model or adapter by name and root (32 bytes), as the workload lists it."""

    name: str
    root: bytes

    def to_json(self) -> dict[str, str]:
        """The entry as JSON values."""
        return {"name": self.name, "root": self.root.hex()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What is signed. `keyset` = K, `workload` = W; `time` in Unix seconds, when the answer was complete.

    `request` and `response` are commitments to the two bodies, of the call of `path`; `policies` and
    `consent` are copied from the workload.
    """

    keyset: bytes
    workload: bytes
    model: Named
    adapter: Named | None
    policies: tuple[str, ...]
    consent: str
    path: str
    request: bytes
    response: bytes
    prompt_tokens: int
    completion_tokens: int
    time: int

    @property
    def period(self) -> int:
        """When the hour of this receipt began, Unix seconds."""
        return period_of(self.time)

    def to_bytes(self) -> bytes:
        """The payload: canonical JSON."""
        table: dict[str, Any] = {
            "format": FORMAT,
            "keyset": documents.b64url(self.keyset),
            "workload": documents.b64url(self.workload),
            "model": self.model.to_json(),
            "policies": list(self.policies),
            "consent": self.consent,
            "path": self.path,
            "request": documents.b64url(self.request),
            "response": documents.b64url(self.response),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "time": self.time,
        }
        if self.adapter is not None:
            table["adapter"] = self.adapter.to_json()
        return documents.encode(table)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The receipt in a payload. Raises MalformedDocument."""
        members = documents.decode(raw, "receipt", limit=MAX_RECEIPT)
        members.exactly("format", FORMAT)
        receipt = cls(
            keyset=members.octets("keyset", DIGEST_SIZE),
            workload=members.octets("workload", DIGEST_SIZE),
            model=_named(members.inner("model")),
            adapter=_named(members.inner("adapter")) if "adapter" in members else None,
            policies=members.texts("policies", limit=64, length=256),
            consent=members.text("consent", limit=128, empty=True),
            path=members.text("path", limit=256),
            request=members.octets("request", DIGEST_SIZE),
            response=members.octets("response", DIGEST_SIZE),
            prompt_tokens=members.whole("prompt_tokens"),
            completion_tokens=members.whole("completion_tokens"),
            time=members.whole("time", high=MAX_TIME),
        )
        members.end()
        return receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedReceipt:
    """A receipt as it travels: COSE_Sign1 (`raw`) and what it holds. Parsed, not verified."""

    receipt: Receipt
    message: cose.Sign1
    raw: bytes = field(repr=False)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The signed receipt in `raw`. Raises MalformedDocument."""
        message = cose.Sign1.from_bytes(raw, limit=MAX_RECEIPT)
        if message.content_type != CONTENT_TYPE:
            raise MalformedDocument(f"a signed {message.content_type!r}, not a receipt")
        return cls(receipt=Receipt.from_bytes(message.payload), message=message, raw=raw)

    def check(self, public_key: bytes) -> None:
        """Raise SignatureRefused unless the Ed25519 key of these 32 bytes signed this receipt."""
        self.message.check(cose.Signer.of(Ed25519PublicKey.from_public_bytes(public_key)), CONTENT_TYPE)


class Commitment:
    """HMAC-SHA-256 over a body as it passes."""

    def __init__(self, salt: bytes) -> None:
        self._mac = hmac.new(salt, digestmod=hashlib.sha256)

    def feed(self, piece: bytes) -> None:
        """The next piece of the body."""
        self._mac.update(piece)

    def digest(self) -> bytes:
        """32 bytes."""
        return self._mac.digest()


class Sink(Protocol):
    """What bodies flow into."""

    def feed(self, piece: bytes) -> None:
        """The next piece."""


class EventText:
    """An event stream without its comments, which are padding: what a receipt covers of a streamed answer.

    Lines end with a line feed. A line that begins with ":" is dropped; so is a blank line that follows no
    other line of its event.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._begun = b""
        self._inside = False

    def feed(self, piece: bytes) -> None:
        """The next piece of the stream."""
        *lines, self._begun = (self._begun + piece).split(b"\n")
        for line in lines:
            self._line(line)

    def close(self) -> None:
        """The end of the stream: what is left without a line feed counts as it stands."""
        if self._begun and not self._begun.startswith(b":"):
            self._sink.feed(self._begun)

    def _line(self, line: bytes) -> None:
        if line.startswith(b":") or (not line and not self._inside):
            return
        self._inside = bool(line)
        self._sink.feed(line + b"\n")


def commitment(body: bytes, salt: bytes) -> bytes:
    """HMAC-SHA-256 of a whole body."""
    return hmac.digest(salt, body, "sha256")


def period_of(time: int) -> int:
    """When the hour of `time` began; both in Unix seconds."""
    return time - time % PERIOD


def period_nonce(period: int) -> bytes:
    """The nonce of a worker's evidence about itself for the hour that begins at `period` (Unix seconds).

    SHA-256("cloister/receipt-period/v1" || u64be(period)).
    """
    return hashlib.sha256(b"cloister/receipt-period/v1" + period.to_bytes(8)).digest()


def asked_for(fields: Fields) -> bytes | None:
    """K of the keyset that shall sign, if a request asks for a receipt. Raises MalformedMessage."""
    values = [value for name, value in fields if name == ASKED]
    if not values:
        return None
    raw = _octets(values[0]) if len(values) == 1 else b""
    if len(raw) != DIGEST_SIZE:
        raise MalformedMessage("cloister-receipt is not one SHA-256 in base64url")
    return raw


def asking(keyset: bytes) -> tuple[bytes, bytes]:
    """The field that asks for a receipt by the keyset with this K."""
    return ASKED, documents.b64url(keyset).encode()


def to_trailers(raw: bytes, salts: Salts) -> Fields:
    """The trailers that carry a signed receipt and its salts."""
    return (
        (RECEIPT, documents.b64url(raw).encode()),
        (SALTS, documents.b64url(salts.request + salts.response).encode()),
    )


def from_trailers(fields: Fields) -> tuple[SignedReceipt, Salts] | None:
    """The signed receipt and salts in an answer's trailers, if there are any. Raises MalformedMessage."""
    found = {name: value for name, value in fields if name in (RECEIPT, SALTS)}
    if not found:
        return None
    salts = _octets(found.get(SALTS, b""))
    if len(salts) != 2 * SALT_SIZE:
        raise MalformedMessage("an answer's receipt comes without its salts")
    try:
        signed = SignedReceipt.from_bytes(_octets(found.get(RECEIPT, b"")))
    except MalformedDocument as error:
        raise MalformedMessage(f"an answer's receipt: {error}") from None
    return signed, Salts(request=salts[:SALT_SIZE], response=salts[SALT_SIZE:])


def _octets(text: bytes) -> bytes:
    try:
        raw = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise MalformedMessage("a receipt's field is not base64url") from None
    if documents.b64url(raw).encode() != text:
        raise MalformedMessage("a receipt's field is not canonical base64url")
    return raw


def _named(members: documents.Members) -> Named:
    named = Named(name=members.text("name", limit=64), root=members.hexadecimal("root", DIGEST_SIZE))
    members.end()
    return named
