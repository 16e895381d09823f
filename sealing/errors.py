"""Errors of the channel, of signed documents and of sealed artifacts.

SealingError
├── MalformedDocument         bytes that are no document of the kind asked for
├── SignatureRefused          a document that its supposed signer did not sign
├── ConsentRefused            a consent that does not allow what is asked, or that not every party signed
├── ArtifactRefused           a sealed artifact that is not what its owner sealed or released
│   ├── ManifestRefused       another manifest or owner than the one that was released
│   ├── WrongKey              the data key is not this artifact's
│   ├── SecretExpired         what was released may no longer be used
│   └── ChunkRefused          a chunk is altered, moved, cut or another's; names it
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


class MalformedDocument(SealingError):
    """Bytes that are no document of the kind asked for, or not in its one form."""


class SignatureRefused(SealingError):
    """The signature does not verify under the key that had to make it, or says it is of another kind."""


class ConsentRefused(SealingError):
    """Not every party signed, it has expired, or it names something else than what is at hand."""


class ArtifactRefused(SealingError):
    """A sealed artifact is not what its owner sealed, or not what was released."""


class ManifestRefused(ArtifactRefused):
    """Another manifest, or another owner's, than the one that was released: a rollback or a re-signing."""


class WrongKey(ArtifactRefused):
    """The data key does not open the artifact's key commitment."""


class SecretExpired(ArtifactRefused):
    """The time until which a released key may be used has passed."""


class ChunkRefused(ArtifactRefused):
    """The chunk `counter` (from 0, over the whole artifact), in file `path`, is not the one sealed there."""

    def __init__(self, counter: int, path: str, reason: str) -> None:
        super().__init__(f"chunk {counter} ({path}) is refused: {reason}")
        self.counter = counter
        self.path = path


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
