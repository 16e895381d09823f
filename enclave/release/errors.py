"""Why a worker has no key. Nothing is kept after any of these; the next try takes a fresh report.

ReleaseError
├── BrokerUnreachable    no answer, no TLS, or the broker is busy: try again
├── BrokerRefused        the broker said no; its owner's audit log says why
├── BrokerLied           an answer that no honest broker gives
├── ReleaseExpired       the secret's time is over
├── TooFewShares         fewer brokers gave a share than the owner asks for
└── SharesDisagree       shares that do not make this artifact's key
"""


class ReleaseError(Exception):
    """Base of every reason for not having a key. `broker` is the broker's address, where one is to blame."""

    def __init__(self, message: str, *, broker: str = "") -> None:
        super().__init__(f"{broker}: {message}" if broker else message)
        self.broker = broker


class BrokerUnreachable(ReleaseError):
    """The broker did not answer, or not over TLS as it should, or is busy."""


class BrokerRefused(ReleaseError):
    """The broker answered no. `status`: 401 not attested, 403 not allowed, 404 no such artifact."""

    def __init__(self, message: str, *, broker: str, status: int) -> None:
        super().__init__(message, broker=broker)
        self.status = status


class BrokerLied(ReleaseError):
    """What the broker answered is not what it was asked for."""


class ReleaseExpired(ReleaseError):
    """The secret came with an end that has passed."""


class TooFewShares(ReleaseError):
    """Fewer shares than the threshold; the message says what each broker answered.

    `undecided`: the brokers that were not reached could have made up for it.
    """

    def __init__(self, message: str, *, undecided: bool = False) -> None:
        super().__init__(message)
        self.undecided = undecided


class SharesDisagree(ReleaseError):
    """The shares make no key, or another one; the message names the brokers as far as can be told."""
