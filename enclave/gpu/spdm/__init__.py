"""SPDM (DSP0274 1.1 and 1.2) with secured messages (DSP0277): requester and responder, without IO.

    requester = Requester(Mctp())
    drive(requester.connect(), send, receive)
    drive(requester.get_certificate(), send, receive)
    unverified = drive(requester.establish(), send, receive)
    session = drive(unverified.verify(judge, nonce), send, receive)     # judge(evidence) raises to refuse
    secret = session.export_master_secret()

One suite: ECDSA P-384, ECDHE P-384, SHA-384, AES-256-GCM. Bindings: Mctp, PciDoe, Tcp. No mutual
authentication, no PSK, no chunking. See docs/spec/spdm.md.
"""

from .bindings import Binding, Kind, Mctp, Packet, Tcp
from .chain import CertificateChain
from .channel import SecureChannel
from .codes import (
    REQUESTER_FLAGS,
    RESPONDER_FLAGS,
    SPDM_11,
    SPDM_12,
    Capability,
    ErrorCode,
)
from .doe import PciDoe, discover
from .entropy import Entropy
from .errors import (
    DeviceRefused,
    LocalProtocolError,
    MalformedMessage,
    PeerError,
    RemoteProtocolError,
    SessionLost,
    SignatureRefused,
    SpdmError,
)
from .flow import Flow, Send, drive, transact
from .messages import MeasurementBlock
from .requester import Requester
from .responder import Identity, Responder, Responses
from .session import Evidence, Judge, Session, UnverifiedSession

__all__ = [
    "REQUESTER_FLAGS",
    "RESPONDER_FLAGS",
    "SPDM_11",
    "SPDM_12",
    "Binding",
    "Capability",
    "CertificateChain",
    "DeviceRefused",
    "Entropy",
    "ErrorCode",
    "Evidence",
    "Flow",
    "Identity",
    "Judge",
    "Kind",
    "LocalProtocolError",
    "MalformedMessage",
    "Mctp",
    "MeasurementBlock",
    "Packet",
    "PciDoe",
    "PeerError",
    "RemoteProtocolError",
    "Requester",
    "Responder",
    "Responses",
    "SecureChannel",
    "Send",
    "Session",
    "SessionLost",
    "SignatureRefused",
    "SpdmError",
    "Tcp",
    "UnverifiedSession",
    "discover",
    "drive",
    "transact",
]
