"""What can go wrong for an owner who seals.

OwnerError (a ClientError)
├── KeyFileError      a key file that is missing, of the wrong kind, locked, or would be overwritten
├── SourceRefused     a directory that cannot be sealed as it is
├── TargetRefused     a place that holds something else, or is in use
├── DiskFull          no room; what was sealed is kept and the next run goes on from there
└── NotAsSealed       a sealed artifact that fails keyless verification; names what
"""

from client.errors import ClientError


class OwnerError(ClientError):
    """Base of the errors of an owner's tools."""


class KeyFileError(OwnerError):
    """A key file is missing, of the wrong kind, locked, or would be overwritten."""


class SourceRefused(OwnerError):
    """A directory that cannot be sealed as it is."""


class TargetRefused(OwnerError):
    """A place that holds something else, or that another process is sealing to."""


class DiskFull(OwnerError):
    """No room. Finished chunks are kept; the same command goes on from there."""


class NotAsSealed(OwnerError):
    """A sealed artifact is not what its owner signed; the message names the part."""
