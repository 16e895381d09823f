"""An artifact's key in shares, k of n (SLIP-0039): what each of several brokers keeps and releases.

Fewer than k shares say nothing about the key. The shares are made here and joined in the worker alone.
"""

from dataclasses import dataclass, field
from typing import Final, Self

from . import documents
from .artifact import ReleasedSecret
from .errors import LocalProtocolError

FORMAT: Final = "cloister/released-share/v1"
MAX_SHARE: Final = 4096
MAX_SHARES: Final = 16
MNEMONIC: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedShare:
    """One of `count` shares of which `threshold` make the key; the rest as in `ReleasedSecret`.

    `mnemonic`: 33 words of SLIP-0039, one group, no passphrase.
    """

    mnemonic: str = field(repr=False)
    threshold: int
    count: int
    manifest: bytes
    owner: bytes
    not_after: int

    def to_bytes(self) -> bytes:
        """Canonical JSON: the resource that a key broker keeps."""
        return documents.encode(
            {
                "format": FORMAT,
                "mnemonic": self.mnemonic,
                "threshold": self.threshold,
                "count": self.count,
                "manifest": documents.b64url(self.manifest),
                "owner": documents.b64url(self.owner),
                "not_after": self.not_after,
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The share in `raw`. Raises MalformedDocument, which quotes none of it."""
        members = documents.decode(raw, "released share", limit=MAX_SHARE)
        members.exactly("format", FORMAT)
        share = cls(
            mnemonic=members.text("mnemonic", limit=MNEMONIC),
            threshold=members.whole("threshold", 2, MAX_SHARES),
            count=members.whole("count", 2, MAX_SHARES),
            manifest=members.octets("manifest", 32),
            owner=members.octets("owner", 32),
            not_after=members.whole("not_after"),
        )
        members.end()
        return share


def split(secret: ReleasedSecret, *, threshold: int, count: int) -> list[ReleasedShare]:
    """`count` shares of the key (2 to 16), of which `threshold` (2 or more) make it again."""
    from shamir_mnemonic import generate_mnemonics

    if not 2 <= threshold <= count <= MAX_SHARES:
        raise LocalProtocolError(f"2 <= threshold <= shares <= {MAX_SHARES}, not {threshold} of {count}")
    (words,) = generate_mnemonics(1, [(threshold, count)], secret.key, iteration_exponent=0)
    return [
        ReleasedShare(
            mnemonic=mnemonic,
            threshold=threshold,
            count=count,
            manifest=secret.manifest,
            owner=secret.owner,
            not_after=secret.not_after,
        )
        for mnemonic in words
    ]
