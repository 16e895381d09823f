"""A secret from one broker, held to what was asked for: this manifest, this owner, not expired."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from sealing.artifact import ReleasedSecret
from sealing.errors import SealingError
from sealing.kbs import ResourceId

from .attester import Attester
from .client import fetch
from .errors import BrokerLied, ReleaseExpired
from .transport import Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a secret must be for: SHA-256 of the manifest, SHA-256 of the owner's key; 32 bytes each."""

    manifest: bytes
    owner: bytes

    def check(self, manifest: bytes, owner: bytes, not_after: int, *, now: float, broker: str) -> None:
        """Raises BrokerLied for another manifest or owner, ReleaseExpired."""
        if not hmac.compare_digest(manifest, self.manifest):
            raise BrokerLied("what it released is for another manifest", broker=broker)
        if not hmac.compare_digest(owner, self.owner):
            raise BrokerLied("what it released is another owner's", broker=broker)
        if now >= not_after:
            raise ReleaseExpired("what it released has expired; its owner can release it anew", broker=broker)


def release(
    transport: Transport,
    resource: ResourceId,
    attester: Attester,
    expected: Expected,
    *,
    clock: Callable[[], float],
) -> ReleasedSecret:
    """The secret for one artifact from one broker. Blocks; takes a fresh report. Raises ReleaseError.

    The key commitment is in the manifest: whoever has the manifest checks the key against it.
    """
    try:
        secret = ReleasedSecret.from_bytes(fetch(transport, resource, attester))
    except SealingError as error:
        raise BrokerLied(f"what it released is no secret: {error}", broker=transport.name) from None
    expected.check(secret.manifest, secret.owner, secret.not_after, now=clock(), broker=transport.name)
    return secret
