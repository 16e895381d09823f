"""Keys from key brokers: one of several that have it, or k of n that hold shares."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sealing.artifact import ReleasedSecret, SignedManifest, check_commitment
from sealing.errors import WrongKey
from sealing.kbs import ResourceId

from ..release import (
    Attester,
    BrokerRefused,
    BrokerUnreachable,
    Expected,
    Quorum,
    ReleaseError,
    Transport,
    release,
    release_from_quorum,
)

NOT_FOUND: Final = 404


def resource_of(signed: SignedManifest) -> ResourceId:
    """The name of an artifact's key at its brokers; one for all its versions (docs/spec/artifact.md)."""
    return ResourceId.parse(signed.manifest.resource)


@dataclass(frozen=True, slots=True, kw_only=True)
class Brokers:
    """Implements `Releaser`. `threshold` 1: the first broker that is reached and knows it has the key.

    So each owner may have a broker of its own. More: the key lies in shares.
    """

    transports: Sequence[Transport]
    attester: Attester
    threshold: int = 1
    clock: Callable[[], float] = time.time

    def __call__(self, signed: SignedManifest) -> ReleasedSecret:
        """The key of this very manifest. Raises ReleaseError."""
        expected = Expected(manifest=signed.hash, owner=signed.manifest.owner.hash)
        if self.threshold > 1:
            quorum = Quorum(brokers=self.transports, threshold=self.threshold)
            return release_from_quorum(
                quorum,
                resource_of(signed),
                self.attester,
                expected,
                lambda key: _commits(signed, key),
                clock=self.clock,
            )
        return self._first(signed, expected)

    def _first(self, signed: SignedManifest, expected: Expected) -> ReleasedSecret:
        unreached: ReleaseError | None = None
        for transport in self.transports:
            try:
                return release(transport, resource_of(signed), self.attester, expected, clock=self.clock)
            except BrokerUnreachable as error:
                unreached = error
            except BrokerRefused as error:
                if error.status != NOT_FOUND:
                    raise
                unreached = unreached or error
        raise unreached or ValueError("no broker is named")


def _commits(signed: SignedManifest, key: bytes) -> bool:
    try:
        check_commitment(key, signed.manifest.id, signed.manifest.commitment)
    except WrongKey:
        return False
    return True
