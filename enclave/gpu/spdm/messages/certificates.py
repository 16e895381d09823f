"""GET_DIGESTS, DIGESTS, GET_CERTIFICATE, CERTIFICATE, CHALLENGE, CHALLENGE_AUTH (DSP0274, 10.6 to 10.9)."""

from dataclasses import dataclass
from typing import Self

from ..codes import HASH_SIZE, NONCE_SIZE, SIGNATURE_SIZE, SLOTS, Code
from ..octets import Reader, number
from .message import Expected, HeaderOnly, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class GetDigests(HeaderOnly):
    """GET_DIGESTS."""

    CODE = Code.GET_DIGESTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests(Message):
    """DIGESTS: `param2` is the mask of filled slots, `digests` one SHA-384 for each, in rising order."""

    CODE = Code.DIGESTS
    digests: tuple[bytes, ...] = ()

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        digests = tuple(reader.take(HASH_SIZE) for _ in range(param2.bit_count()))
        return cls(version=version, param1=param1, param2=param2, digests=digests)

    def _body(self) -> bytes:
        return b"".join(self.digests)

    @property
    def by_slot(self) -> dict[int, bytes]:
        """The digest of each filled slot."""
        slots = (slot for slot in range(SLOTS) if self.param2 >> slot & 1)
        return dict(zip(slots, self.digests, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class GetCertificate(Message):
    """GET_CERTIFICATE: `length` bytes of the chain in slot `param1` from `offset` on."""

    CODE = Code.GET_CERTIFICATE
    offset: int = 0
    length: int = 0

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        offset, length = reader.number(2), reader.number(2)
        return cls(version=version, param1=param1, param2=param2, offset=offset, length=length)

    def _body(self) -> bytes:
        return number(self.offset, 2) + number(self.length, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate(Message):
    """CERTIFICATE: a `portion` of the chain; `remainder` bytes follow it."""

    CODE = Code.CERTIFICATE
    portion: bytes = b""
    remainder: int = 0

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        size, remainder = reader.number(2), reader.number(2)
        portion = reader.take(size)
        return cls(version=version, param1=param1, param2=param2, portion=portion, remainder=remainder)

    def _body(self) -> bytes:
        return number(len(self.portion), 2) + number(self.remainder, 2) + self.portion


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge(Message):
    """CHALLENGE: slot in `param1`, summary hash type in `param2`."""

    CODE = Code.CHALLENGE
    nonce: bytes

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        return cls(version=version, param1=param1, param2=param2, nonce=reader.take(NONCE_SIZE))

    def _body(self) -> bytes:
        return self.nonce


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeAuth(Message):
    """CHALLENGE_AUTH: slot in `param1` (bits 3:0), slot mask in `param2`. `signature` is R || S."""

    CODE = Code.CHALLENGE_AUTH
    chain_hash: bytes
    nonce: bytes
    summary: bytes
    opaque: bytes
    signature: bytes

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        chain_hash, nonce = reader.take(HASH_SIZE), reader.take(NONCE_SIZE)
        summary = reader.take(HASH_SIZE if expected.summary else 0)
        opaque = reader.take(reader.number(2))
        return cls(
            version=version,
            param1=param1,
            param2=param2,
            chain_hash=chain_hash,
            nonce=nonce,
            summary=summary,
            opaque=opaque,
            signature=reader.take(SIGNATURE_SIZE),
        )

    def _body(self) -> bytes:
        head = self.chain_hash + self.nonce + self.summary
        return head + number(len(self.opaque), 2) + self.opaque + self.signature
