"""What an adapter's owner orders of a worker that serves: load it, or let it go. Signed by that owner."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from sealing import cose, documents
from sealing.errors import MalformedDocument, SignatureRefused

from .chunks import ARTIFACT_ID

CONTENT_TYPE: Final = "application/vnd.cloister.adapter-order+json"
FORMAT: Final = "cloister/adapter-order/v1"
MAX_ORDER: Final = 16 * 1024
MAX_AGE: Final = 120
"""Seconds by which an order's time may differ from the worker's clock, either way."""


class Do(StrEnum):
    """What is ordered."""

    LOAD = "load"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterOrder:
    """`do` it with the adapter `artifact` under `name`; to one worker, by its keyset hash K (32 bytes).

    `place` is where it lies: an http(s) or azblob: address, or "" for what was uploaded to the worker; ""
    to unload. `created` in Unix seconds.
    """

    do: Do
    name: str
    artifact: bytes
    place: str
    keyset: bytes
    created: int

    def sign(self, key: cose.SigningKey) -> bytes:
        """The order as its owner sends it."""
        table = {
            "format": FORMAT,
            "do": self.do.value,
            "name": self.name,
            "artifact": documents.b64url(self.artifact),
            "place": self.place,
            "keyset": documents.b64url(self.keyset),
            "created": self.created,
            "owner": documents.b64url(cose.Signer.of(key).spki),
        }
        return cose.sign(documents.encode(table), CONTENT_TYPE, key)

    @classmethod
    def read(cls, raw: bytes) -> tuple[Self, cose.Signer]:
        """An order and who signed it. Raises MalformedDocument, SignatureRefused."""
        message = cose.Sign1.from_bytes(raw, limit=MAX_ORDER)
        members = documents.decode(message.payload, "order", limit=MAX_ORDER)
        members.exactly("format", FORMAT)
        order = cls(
            do=_do(members.text("do", limit=16)),
            name=members.text("name", limit=64),
            artifact=members.octets("artifact", ARTIFACT_ID),
            place=members.text("place", limit=4096, empty=True),
            keyset=members.octets("keyset", 32),
            created=members.whole("created"),
        )
        signer = cose.Signer(members.octets("owner", limit=256))
        members.end()
        message.check(signer, CONTENT_TYPE)
        return order, signer

    def check(self, keyset: bytes, now: float) -> None:
        """Raise SignatureRefused unless it is for the worker with these keys, and of now."""
        if self.keyset != keyset:
            raise SignatureRefused("the order is for another worker, or for keys that it had before")
        if abs(now - self.created) > MAX_AGE:
            raise SignatureRefused(
                f"the order was made at {self.created}, the worker's clock says {int(now)}"
            )


def _do(text: str) -> Do:
    try:
        return Do(text)
    except ValueError:
        raise MalformedDocument(f"order: {text!r} is neither load nor unload") from None
