"""What a broker hands to a worker that proved itself: one artifact's key, and what it may be used for."""

from dataclasses import dataclass, field
from typing import Final, Self

from sealing import documents

MAX_SECRET: Final = 4096
FORMAT: Final = "cloister/released-secret/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedSecret:
    """`key` opens the one manifest with hash `manifest` of the owner with hash `owner`, until `not_after`.

    Hashes are SHA-256 (32 bytes): of the manifest file as stored, of the owner's SubjectPublicKeyInfo.
    `not_after` in Unix seconds. As bytes it is the resource that a key broker keeps and releases.
    """

    key: bytes = field(repr=False)
    manifest: bytes
    owner: bytes
    not_after: int

    def to_bytes(self) -> bytes:
        """Canonical JSON (docs/spec/artifact.md)."""
        return documents.encode(
            {
                "format": FORMAT,
                "key": documents.b64url(self.key),
                "manifest": documents.b64url(self.manifest),
                "owner": documents.b64url(self.owner),
                "not_after": self.not_after,
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The secret in `raw`. Raises MalformedDocument, which quotes none of it."""
        members = documents.decode(raw, "released secret", limit=MAX_SECRET)
        members.exactly("format", FORMAT)
        secret = cls(
            key=members.octets("key", 32),
            manifest=members.octets("manifest", 32),
            owner=members.octets("owner", 32),
            not_after=members.whole("not_after"),
        )
        members.end()
        return secret
