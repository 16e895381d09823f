"""What a broker's operator or owner can do wrong, or find broken.

ClientError
└── BrokerError
    ├── MasterKeyError      no master key, or not the one that the store was made with
    ├── StoreError          the database cannot be used
    ├── UnknownArtifact     no artifact of this name
    ├── LimitsError         limits or a policy that do not hold together
    └── AuditBroken         the log was altered or cut
"""

from client.errors import ClientError


class BrokerError(ClientError):
    """Base of the broker's errors."""


class MasterKeyError(BrokerError):
    """No usable master key, or another than the store's."""


class StoreError(BrokerError):
    """The database cannot be opened, is of another version, full or busy."""


class UnknownArtifact(BrokerError):
    """No artifact of this name is kept here."""


class LimitsError(BrokerError):
    """An artifact's limits or its policy contradict each other; the message names what to change."""


class AuditBroken(BrokerError):
    """The audit log is not what was written: an entry altered, missing, or the end cut off."""
