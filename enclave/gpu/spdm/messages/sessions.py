"""KEY_EXCHANGE to END_SESSION_ACK (DSP0274, 10.16 to 10.24)."""

from dataclasses import dataclass
from typing import Self

from ..codes import EXCHANGE_SIZE, HASH_SIZE, NONCE_SIZE, SIGNATURE_SIZE, Code
from ..octets import Reader, number
from .message import Expected, HeaderOnly, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyExchange(Message):
    """KEY_EXCHANGE: summary hash type in `param1`, slot in `param2`.

    `exchange` is the public point, X || Y. `policy` is SessionPolicy from 1.2 on, reserved in 1.1.
    """

    CODE = Code.KEY_EXCHANGE
    session_id: int
    random: bytes
    exchange: bytes
    opaque: bytes
    policy: int = 0
    reserved: int = 0

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        session_id, policy, reserved = reader.number(2), reader.number(1), reader.number(1)
        random, exchange = reader.take(NONCE_SIZE), reader.take(EXCHANGE_SIZE)
        return cls(
            version=version,
            param1=param1,
            param2=param2,
            session_id=session_id,
            random=random,
            exchange=exchange,
            opaque=reader.take(reader.number(2)),
            policy=policy,
            reserved=reserved,
        )

    def _body(self) -> bytes:
        head = number(self.session_id, 2) + bytes((self.policy, self.reserved))
        return head + self.random + self.exchange + number(len(self.opaque), 2) + self.opaque


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyExchangeRsp(Message):
    """KEY_EXCHANGE_RSP: heartbeat period (s) in `param1`. `verify_data` is empty in a clear handshake."""

    CODE = Code.KEY_EXCHANGE_RSP
    session_id: int
    random: bytes
    exchange: bytes
    summary: bytes
    opaque: bytes
    signature: bytes
    verify_data: bytes
    mut_auth: int = 0
    requester_slot: int = 0

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        session_id, mut_auth, slot = reader.number(2), reader.number(1), reader.number(1)
        random, exchange = reader.take(NONCE_SIZE), reader.take(EXCHANGE_SIZE)
        summary = reader.take(HASH_SIZE if expected.summary else 0)
        opaque = reader.take(reader.number(2))
        return cls(
            version=version,
            param1=param1,
            param2=param2,
            session_id=session_id,
            random=random,
            exchange=exchange,
            summary=summary,
            opaque=opaque,
            signature=reader.take(SIGNATURE_SIZE),
            verify_data=reader.take(HASH_SIZE if expected.verify_data else 0),
            mut_auth=mut_auth,
            requester_slot=slot,
        )

    @property
    def unsigned(self) -> bytes:
        """The message up to its signature."""
        head = number(self.session_id, 2) + bytes((self.mut_auth, self.requester_slot))
        header = bytes((self.version, self.CODE, self.param1, self.param2))
        opaque = number(len(self.opaque), 2) + self.opaque
        return header + head + self.random + self.exchange + self.summary + opaque

    def _body(self) -> bytes:
        return self.unsigned[4:] + self.signature + self.verify_data


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish(Message):
    """FINISH: bit 0 of `param1` says that a `signature` (of mutual authentication) is included."""

    CODE = Code.FINISH
    verify_data: bytes
    signature: bytes = b""

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        signature = reader.take(SIGNATURE_SIZE if param1 & 1 else 0)
        verify_data = reader.take(HASH_SIZE)
        return cls(
            version=version, param1=param1, param2=param2, verify_data=verify_data, signature=signature
        )

    def _body(self) -> bytes:
        return self.signature + self.verify_data


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRsp(Message):
    """FINISH_RSP: `verify_data` only where the handshake was in the clear."""

    CODE = Code.FINISH_RSP
    verify_data: bytes = b""

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        verify_data = reader.take(HASH_SIZE if expected.verify_data else 0)
        return cls(version=version, param1=param1, param2=param2, verify_data=verify_data)

    def _body(self) -> bytes:
        return self.verify_data


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(HeaderOnly):
    """HEARTBEAT."""

    CODE = Code.HEARTBEAT


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatAck(HeaderOnly):
    """HEARTBEAT_ACK."""

    CODE = Code.HEARTBEAT_ACK


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUpdate(HeaderOnly):
    """KEY_UPDATE: a KeyOperation in `param1`, a tag in `param2`."""

    CODE = Code.KEY_UPDATE


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUpdateAck(HeaderOnly):
    """KEY_UPDATE_ACK: repeats operation and tag."""

    CODE = Code.KEY_UPDATE_ACK


@dataclass(frozen=True, slots=True, kw_only=True)
class EndSession(HeaderOnly):
    """END_SESSION: bit 0 of `param1` asks to forget the negotiated state."""

    CODE = Code.END_SESSION


@dataclass(frozen=True, slots=True, kw_only=True)
class EndSessionAck(HeaderOnly):
    """END_SESSION_ACK."""

    CODE = Code.END_SESSION_ACK
