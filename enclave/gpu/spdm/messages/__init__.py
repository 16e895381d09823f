"""Messages of DSP0274 1.1 and 1.2: one frozen class each, `from_bytes` and `to_bytes`."""

from typing import Final

from ..errors import MalformedMessage
from ..octets import Reader
from .certificates import (
    Certificate,
    Challenge,
    ChallengeAuth,
    Digests,
    GetCertificate,
    GetDigests,
)
from .measurements import RAW, SIGNED, GetMeasurements, MeasurementBlock, Measurements
from .message import NOTHING, Error, Expected, HeaderOnly, Message, RespondIfReady
from .negotiation import (
    Algorithms,
    AlgorithmStructure,
    Capabilities,
    GetCapabilities,
    GetVersion,
    NegotiateAlgorithms,
    Version,
)
from .sessions import (
    EndSession,
    EndSessionAck,
    Finish,
    FinishRsp,
    Heartbeat,
    HeartbeatAck,
    KeyExchange,
    KeyExchangeRsp,
    KeyUpdate,
    KeyUpdateAck,
)

ALL_MESSAGES: Final[tuple[type[Message], ...]] = (
    GetVersion,
    Version,
    GetCapabilities,
    Capabilities,
    NegotiateAlgorithms,
    Algorithms,
    GetDigests,
    Digests,
    GetCertificate,
    Certificate,
    Challenge,
    ChallengeAuth,
    GetMeasurements,
    Measurements,
    KeyExchange,
    KeyExchangeRsp,
    Finish,
    FinishRsp,
    Heartbeat,
    HeartbeatAck,
    KeyUpdate,
    KeyUpdateAck,
    EndSession,
    EndSessionAck,
    Error,
    RespondIfReady,
)
_BY_CODE: Final = {int(kind.CODE): kind for kind in ALL_MESSAGES}


def decode(raw: bytes, expected: Expected = NOTHING, *, padding: int = 0) -> tuple[Message, bytes]:
    """The message in `raw`, and its exact bytes: a transport may have added up to `padding` zero bytes.

    Raises MalformedMessage.
    """
    kind = _BY_CODE.get(raw[1]) if len(raw) > 1 else None
    if kind is None:
        raise MalformedMessage(f"no message begins with {raw[:4].hex() or 'nothing'}")
    reader = Reader(raw)
    message = kind.read(reader, expected)
    exact, rest = raw[: reader.offset], raw[reader.offset :]
    if len(rest) > padding or any(rest):
        raise MalformedMessage(f"{len(rest)} bytes follow {kind.CODE.name}")
    return message, exact


__all__ = [
    "ALL_MESSAGES",
    "NOTHING",
    "RAW",
    "SIGNED",
    "AlgorithmStructure",
    "Algorithms",
    "Capabilities",
    "Certificate",
    "Challenge",
    "ChallengeAuth",
    "Digests",
    "EndSession",
    "EndSessionAck",
    "Error",
    "Expected",
    "Finish",
    "FinishRsp",
    "GetCapabilities",
    "GetCertificate",
    "GetDigests",
    "GetMeasurements",
    "GetVersion",
    "HeaderOnly",
    "Heartbeat",
    "HeartbeatAck",
    "KeyExchange",
    "KeyExchangeRsp",
    "KeyUpdate",
    "KeyUpdateAck",
    "MeasurementBlock",
    "Measurements",
    "Message",
    "NegotiateAlgorithms",
    "RespondIfReady",
    "Version",
]
