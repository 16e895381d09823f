"""GET_MEASUREMENTS and MEASUREMENTS (DSP0274, 10.11)."""

from dataclasses import dataclass
from typing import Self

from ..codes import NONCE_SIZE, SIGNATURE_SIZE, Code
from ..errors import MalformedMessage
from ..octets import Reader, number
from .message import Expected, Message

SIGNED = 0x01
RAW = 0x02
_DMTF = 1


@dataclass(frozen=True, slots=True)
class MeasurementBlock:
    """One block: `index` 1 to 254, `specification` 1 for DMTF's, and what it defines."""

    index: int
    specification: int
    measurement: bytes

    @classmethod
    def dmtf(cls, index: int, kind: int, value: bytes) -> Self:
        """A block in DMTF's form: bit 7 of `kind` says that `value` is raw and not a digest."""
        return cls(index, _DMTF, bytes((kind,)) + number(len(value), 2) + value)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The block at the front of `reader`."""
        index, specification = reader.take(2)
        return cls(index, specification, reader.take(reader.number(2)))

    def to_bytes(self) -> bytes:
        """The block as sent."""
        head = bytes((self.index, self.specification)) + number(len(self.measurement), 2)
        return head + self.measurement

    @property
    def kind(self) -> int:
        """DMTFSpecMeasurementValueType, bit 7 included; 0 if the block is empty."""
        return self.measurement[0] if self.measurement else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GetMeasurements(Message):
    """GET_MEASUREMENTS: attributes in `param1` (SIGNED, RAW), operation in `param2`.

    Operation 0 asks how many there are, 1 to 254 for one block, 255 for all. 37 bytes when it asks for a
    signature, which takes `nonce` and `slot`; else 4.
    """

    CODE = Code.GET_MEASUREMENTS
    nonce: bytes = b""
    slot: int = 0

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        if not param1 & SIGNED:
            return cls(version=version, param1=param1, param2=param2)
        nonce, slot = reader.take(NONCE_SIZE), reader.number(1)
        return cls(version=version, param1=param1, param2=param2, nonce=nonce, slot=slot)

    def _body(self) -> bytes:
        return self.nonce + number(self.slot, 1) if self.param1 & SIGNED else b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements(Message):
    """MEASUREMENTS: how many there are in `param1` (if that was asked), slot and change in `param2`.

    `signature` is empty where none was asked for; a nonce is always there. `opaque` is the vendor's:
    NVIDIA's is type, length, value (attestation/nvidia/opaque.py).
    """

    CODE = Code.MEASUREMENTS
    blocks: tuple[MeasurementBlock, ...]
    nonce: bytes
    opaque: bytes
    signature: bytes = b""

    @classmethod
    def _read(cls, reader: Reader, expected: Expected, version: int, param1: int, param2: int) -> Self:
        count, size = reader.number(1), reader.number(3)
        record = Reader(reader.take(size))
        blocks = tuple(MeasurementBlock.read(record) for _ in range(count))
        if record.left():
            raise MalformedMessage(f"the measurement record holds more than {count} blocks")
        nonce = reader.take(NONCE_SIZE)
        opaque = reader.take(reader.number(2))
        return cls(
            version=version,
            param1=param1,
            param2=param2,
            blocks=blocks,
            nonce=nonce,
            opaque=opaque,
            signature=reader.take(SIGNATURE_SIZE if expected.signed else 0),
        )

    def _body(self) -> bytes:
        record = b"".join(block.to_bytes() for block in self.blocks)
        head = number(len(self.blocks), 1) + number(len(record), 3) + record
        return head + self.nonce + number(len(self.opaque), 2) + self.opaque + self.signature
