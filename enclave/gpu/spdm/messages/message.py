"""What all messages have in common: four bytes of header, and reading that leaves nothing over."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

from ..codes import SPDM_10, SPDM_11, SPDM_12, Code
from ..errors import MalformedMessage
from ..octets import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a response's bytes do not say themselves: the request decided it.

    `signed`: MEASUREMENTS ends in a signature. `summary`: CHALLENGE_AUTH and KEY_EXCHANGE_RSP carry a
    measurement summary hash. `verify_data`: KEY_EXCHANGE_RSP or FINISH_RSP ends in ResponderVerifyData.
    """

    signed: bool = False
    summary: bool = False
    verify_data: bool = False


NOTHING = Expected()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(ABC):
    """A message of DSP0274. Parsed, not verified. Reserved bytes are carried as they came."""

    CODE: ClassVar[Code]
    VERSIONS: ClassVar[tuple[int, ...]] = (SPDM_11, SPDM_12)

    version: int
    param1: int = 0
    param2: int = 0

    @classmethod
    def from_bytes(cls, raw: bytes, expected: Expected = NOTHING) -> Self:
        """The message that is all of `raw`, or MalformedMessage."""
        reader = Reader(raw)
        message = cls.read(reader, expected)
        if reader.left():
            raise MalformedMessage(f"{reader.left()} bytes follow {cls.CODE.name}")
        return message

    @classmethod
    def read(cls, reader: Reader, expected: Expected = NOTHING) -> Self:
        """The message at the front of `reader`."""
        version, code, param1, param2 = reader.take(4)
        if code != cls.CODE or version not in cls.VERSIONS:
            raise MalformedMessage(f"not {cls.CODE.name} of a known version: {version:02x}{code:02x}")
        return cls._read(reader, expected, version, param1, param2)

    @classmethod
    @abstractmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self: ...

    def to_bytes(self) -> bytes:
        """The message as sent."""
        return bytes((self.version, self.CODE, self.param1, self.param2)) + self._body()

    def _body(self) -> bytes:
        return b""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderOnly(Message):
    """A message of four bytes."""

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        return cls(version=version, param1=param1, param2=param2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Error(Message):
    """ERROR: `param1` is an ErrorCode, `param2` its data; `extended` as the code defines."""

    CODE = Code.ERROR
    VERSIONS = (SPDM_10, SPDM_11, SPDM_12)
    extended: bytes = b""

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        return cls(version=version, param1=param1, param2=param2, extended=reader.rest())

    def _body(self) -> bytes:
        return self.extended


@dataclass(frozen=True, slots=True, kw_only=True)
class RespondIfReady(HeaderOnly):
    """RESPOND_IF_READY: `param1` is the request's code, `param2` the token of the ERROR."""

    CODE = Code.RESPOND_IF_READY
