"""Getting owners' keys: the worker attests to a key broker and is handed a secret for one artifact.

`release` is what the worker calls; docs/spec/release.md says what goes over the wire.
"""

from .attester import Attester
from .errors import (
    BrokerLied,
    BrokerRefused,
    BrokerUnreachable,
    ReleaseError,
    ReleaseExpired,
    SharesDisagree,
    TooFewShares,
)
from .quorum import Quorum, release_from_quorum
from .secret import Expected, release
from .transport import BrokerAddress, HttpTransport, Transport

__all__ = [
    "Attester",
    "BrokerAddress",
    "BrokerLied",
    "BrokerRefused",
    "BrokerUnreachable",
    "Expected",
    "HttpTransport",
    "Quorum",
    "ReleaseError",
    "ReleaseExpired",
    "SharesDisagree",
    "TooFewShares",
    "Transport",
    "release",
    "release_from_quorum",
]
