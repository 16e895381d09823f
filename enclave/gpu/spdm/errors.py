"""What can go wrong in SPDM, and whose fault it was.

SpdmError
|- LocalProtocolError       you erred: a call that the state or the negotiated capabilities do not allow
|- RemoteProtocolError      the peer erred: its bytes are not what the standard allows here
|  |- MalformedMessage      they are no message at all
|  |- PeerError             it answered ERROR; `code` says which
|  |- SignatureRefused      a signature, an HMAC or a digest of it does not verify
|  |- SessionLost           a record does not open, or the peer has given the session up; keys are erased
|- DeviceRefused            the caller's judge did not accept the device's evidence; keys are erased
"""


class SpdmError(Exception):
    """The exchange could not be completed."""


class LocalProtocolError(SpdmError):
    """A call out of turn or with a value that cannot be sent; nothing was sent."""


class RemoteProtocolError(SpdmError):
    """The peer broke the protocol."""


class MalformedMessage(RemoteProtocolError):
    """Bytes that are not a message of the kind expected."""


class PeerError(RemoteProtocolError):
    """The peer answered with ERROR; `code` and `data` are its two parameters."""

    def __init__(self, message: str, code: int, data: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class SignatureRefused(RemoteProtocolError):
    """A signature, HMAC, digest or hash of the peer does not verify."""


class SessionLost(RemoteProtocolError):
    """The session has ended against our will; its keys are erased. Attest the device anew."""


class DeviceRefused(SpdmError):
    """The device's evidence was not accepted, so there is no session."""
