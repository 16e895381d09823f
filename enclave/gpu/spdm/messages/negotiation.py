"""GET_VERSION to ALGORITHMS (DSP0274, 10.3 to 10.5)."""

from dataclasses import dataclass
from typing import Self

from ..codes import SPDM_10, SPDM_12, Code
from ..errors import MalformedMessage
from ..octets import Reader, number
from .message import Expected, HeaderOnly, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class GetVersion(HeaderOnly):
    """GET_VERSION, always in version 1.0's form."""

    CODE = Code.GET_VERSION
    VERSIONS = (SPDM_10,)
    version: int = SPDM_10


@dataclass(frozen=True, slots=True, kw_only=True)
class Version(Message):
    """VERSION: `entries` are 16-bit version numbers (major, minor, update, alpha: four bits each)."""

    CODE = Code.VERSION
    VERSIONS = (SPDM_10,)
    version: int = SPDM_10
    entries: tuple[int, ...] = ()
    reserved: int = 0

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        reserved, count = reader.number(1), reader.number(1)
        entries = tuple(reader.number(2) for _ in range(count))
        return cls(version=version, param1=param1, param2=param2, entries=entries, reserved=reserved)

    def _body(self) -> bytes:
        return bytes((self.reserved, len(self.entries))) + b"".join(number(e, 2) for e in self.entries)

    @property
    def spoken(self) -> frozenset[int]:
        """The released versions among the entries, as they stand in headers (0x12 for 1.2)."""
        return frozenset(entry >> 8 for entry in self.entries if not entry & 0xF)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Capabilities(Message):
    """`flags` are Capability bits; the two sizes (bytes) exist from 1.2 on and are 0 in 1.1."""

    flags: int = 0
    ct_exponent: int = 0
    data_transfer_size: int = 0
    max_message_size: int = 0
    reserved: bytes = bytes(3)

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        first, exponent, others = reader.take(1), reader.number(1), reader.take(2)
        flags = reader.number(4)
        sizes = (reader.number(4), reader.number(4)) if version >= SPDM_12 else (0, 0)
        return cls(
            version=version,
            param1=param1,
            param2=param2,
            flags=flags,
            ct_exponent=exponent,
            data_transfer_size=sizes[0],
            max_message_size=sizes[1],
            reserved=first + others,
        )

    def _body(self) -> bytes:
        head = self.reserved[:1] + number(self.ct_exponent, 1) + self.reserved[1:] + number(self.flags, 4)
        if self.version < SPDM_12:
            return head
        return head + number(self.data_transfer_size, 4) + number(self.max_message_size, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class GetCapabilities(_Capabilities):
    """GET_CAPABILITIES: 12 bytes in 1.1, 20 in 1.2."""

    CODE = Code.GET_CAPABILITIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities(_Capabilities):
    """CAPABILITIES: 12 bytes in 1.1, 20 in 1.2."""

    CODE = Code.CAPABILITIES


@dataclass(frozen=True, slots=True)
class AlgorithmStructure:
    """AlgStruct: `kind` an AlgorithmType, `fixed` its bits, `external` four bytes each."""

    kind: int
    fixed: bytes
    external: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, kind: int, bits: int) -> Self:
        """A structure of 16 bits without external algorithms."""
        return cls(kind, number(bits, 2))

    @property
    def bits(self) -> int:
        """The fixed algorithms."""
        return int.from_bytes(self.fixed, "little")

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The structure at the front of `reader`."""
        kind, count = reader.take(2)
        fixed = reader.take(count >> 4)
        return cls(kind, fixed, tuple(reader.take(4) for _ in range(count & 0xF)))

    def to_bytes(self) -> bytes:
        """The structure as sent."""
        counts = len(self.fixed) << 4 | len(self.external)
        return bytes((self.kind, counts)) + self.fixed + b"".join(self.external)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Algorithms(Message):
    """Bits as Algorithm names them; `param1` counts `structures`."""

    measurement_specification: int = 0
    other_params: int = 0
    base_asym: int = 0
    base_hash: int = 0
    structures: tuple[AlgorithmStructure, ...] = ()
    reserved: bytes = bytes(12)
    reserved_end: bytes = bytes(2)
    external_asym: tuple[bytes, ...] = ()
    external_hash: tuple[bytes, ...] = ()

    @classmethod
    def _common(cls, reader: Reader, count: int) -> dict[str, object]:
        """Everything from BaseAsym on."""
        base_asym, base_hash, reserved = reader.number(4), reader.number(4), reader.take(12)
        asym, hashes, reserved_end = reader.number(1), reader.number(1), reader.take(2)
        return {
            "base_asym": base_asym,
            "base_hash": base_hash,
            "reserved": reserved,
            "reserved_end": reserved_end,
            "external_asym": tuple(reader.take(4) for _ in range(asym)),
            "external_hash": tuple(reader.take(4) for _ in range(hashes)),
            "structures": tuple(AlgorithmStructure.read(reader) for _ in range(count)),
        }

    def _tail(self) -> bytes:
        counts = bytes((len(self.external_asym), len(self.external_hash)))
        head = number(self.base_asym, 4) + number(self.base_hash, 4) + self.reserved + counts
        external = b"".join(self.external_asym + self.external_hash)
        return head + self.reserved_end + external + b"".join(s.to_bytes() for s in self.structures)

    def _sized(self, middle: bytes) -> bytes:
        """The body with its Length, which counts header and Length as well."""
        rest = bytes((self.measurement_specification, self.other_params)) + middle + self._tail()
        return number(len(rest) + 6, 2) + rest

    def bits(self, kind: int) -> int:
        """The fixed algorithms of structure `kind`; 0 if there is none."""
        return next((item.bits for item in self.structures if item.kind == kind), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NegotiateAlgorithms(_Algorithms):
    """NEGOTIATE_ALGORITHMS: what the requester can do."""

    CODE = Code.NEGOTIATE_ALGORITHMS

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        start, length = reader.offset - 4, reader.number(2)
        specification, other = reader.take(2)
        common = cls._common(reader, param1)
        _check_length(reader, start, length)
        return cls(
            version=version,
            param1=param1,
            param2=param2,
            measurement_specification=specification,
            other_params=other,
            **common,  # type: ignore[arg-type]
        )

    def _body(self) -> bytes:
        return self._sized(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithms(_Algorithms):
    """ALGORITHMS: what the responder chose."""

    CODE = Code.ALGORITHMS
    measurement_hash: int = 0

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        start, length = reader.offset - 4, reader.number(2)
        specification, other = reader.take(2)
        measurement_hash = reader.number(4)
        common = cls._common(reader, param1)
        _check_length(reader, start, length)
        return cls(
            version=version,
            param1=param1,
            param2=param2,
            measurement_specification=specification,
            other_params=other,
            measurement_hash=measurement_hash,
            **common,  # type: ignore[arg-type]
        )

    def _body(self) -> bytes:
        return self._sized(number(self.measurement_hash, 4))


def _check_length(reader: Reader, start: int, length: int) -> None:
    if reader.offset - start != length:
        raise MalformedMessage(f"Length is {length}, the message has {reader.offset - start} bytes")
