"""Errors of the channel.

SealingError
├── LocalProtocolError        the caller misused the interface
└── RemoteProtocolError       the peer sent something it may not send
    ├── MalformedMessage      bytes that no conforming peer produces
    ├── TruncatedMessage      the message stops early: no final chunk, or an unfinished part
    ├── MessageTooLarge       a declared or actual size above the limit given
    ├── DecryptionFailed      one message for every cause
    ├── UnknownKey            no key with this key identifier
    └── UnsupportedSuite      an algorithm that is not known, or was not offered
"""


class SealingError(Exception):
    """Every error that this package raises on purpose."""


class LocalProtocolError(SealingError):
    """The caller misused the interface; nothing the peer sent causes it."""


class RemoteProtocolError(SealingError):
    """The peer erred, or somebody between altered what it sent."""


class MalformedMessage(RemoteProtocolError):
    """Bytes that no conforming peer produces."""


class TruncatedMessage(RemoteProtocolError):
    """The message stops before its end: never to be taken for a complete one."""


class MessageTooLarge(RemoteProtocolError):
    """A declared or actual size is above the limit given."""


class DecryptionFailed(RemoteProtocolError):
    """Decapsulation or authentication failed; the message is the same for every cause."""

    def __init__(self) -> None:
        super().__init__("decryption failed")


class UnknownKey(RemoteProtocolError):
    """No key with the key identifier of the request."""


class UnsupportedSuite(RemoteProtocolError):
    """An algorithm identifier that is not known, or that the key configuration does not offer."""
