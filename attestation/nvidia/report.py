"""An NVIDIA device's attestation report: SPDM 1.1 GET_MEASUREMENTS and MEASUREMENTS (DSP0274)."""

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple, Self

from ..errors import MalformedEvidence
from .opaque import OpaqueData

SPDM_VERSION = 0x11
GET_MEASUREMENTS = 0xE0
MEASUREMENTS = 0x60
NONCE_SIZE = 32
SIGNATURE_SIZE = 96
MAX_REPORT = 64 * 1024

_REQUEST = struct.Struct("<BBBB32sB")
_RESPONSE = struct.Struct("<BBBBB3s")
_BLOCK = struct.Struct("<BBHBH")
_DMTF = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementsRequest:
    """GET_MEASUREMENTS (DSP0274 1.1, 10.11): 37 bytes. `nonce` is the verifier's.

    `attributes` 1 asks for a signature, `operation` 0xFF for every measurement.
    """

    nonce: bytes
    attributes: int = 1
    operation: int = 0xFF
    slot: int = 0

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The request in 37 bytes; MalformedEvidence for another version or code."""
        if len(raw) != _REQUEST.size:
            raise MalformedEvidence("GET_MEASUREMENTS is cut short")
        version, code, attributes, operation, nonce, slot = _REQUEST.unpack(raw)
        if (version, code) != (SPDM_VERSION, GET_MEASUREMENTS):
            raise MalformedEvidence(f"not SPDM 1.1 GET_MEASUREMENTS: {raw[:2].hex()}")
        return cls(nonce=nonce, attributes=attributes, operation=operation, slot=slot)

    def to_bytes(self) -> bytes:
        """The 37 bytes that the device signs."""
        return _REQUEST.pack(
            SPDM_VERSION, GET_MEASUREMENTS, self.attributes, self.operation, self.nonce, self.slot
        )


class Measurement(NamedTuple):
    """One measurement block in DMTF's form (DSP0274 1.1, table 44): `index` 1 to 254.

    `kind` bits 6:0 say what was measured; bit 7 says that `value` is raw and not a digest.
    """

    index: int  # type: ignore[assignment]  # the specification's word; nobody calls tuple.index
    kind: int
    value: bytes

    def to_bytes(self) -> bytes:
        """The block as sent."""
        size = len(self.value)
        return _BLOCK.pack(self.index, _DMTF, size + 3, self.kind, size) + self.value


@dataclass(frozen=True, kw_only=True)
class GpuReport:
    """A report of a GPU or an NVSwitch: request || response. Parsed, not verified.

    `measurement_record` is all measurement blocks as sent. The ECDSA P-384 `signature` is R || S,
    big-endian, over `signed`: all that precedes it. One NUL may follow it in a capture through C
    strings; it is kept in `trailer`, is covered by no signature, and anything else there is malformed.
    """

    request: MeasurementsRequest
    measurement_record: bytes
    responder_nonce: bytes
    opaque: OpaqueData
    signature: bytes
    param1: int = 0
    param2: int = 0
    trailer: bytes = b""

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The report in `raw`; what parses re-encodes to the same bytes, all else is MalformedEvidence."""
        if len(raw) > MAX_REPORT:
            raise MalformedEvidence(f"report of {len(raw)} bytes exceeds {MAX_REPORT}")
        reader = _Reader(raw)
        request = MeasurementsRequest.from_bytes(reader.take(_REQUEST.size))
        version, code, param1, param2, count, length = _RESPONSE.unpack(reader.take(_RESPONSE.size))
        if (version, code) != (SPDM_VERSION, MEASUREMENTS):
            raise MalformedEvidence(f"not SPDM 1.1 MEASUREMENTS: {version:02x}{code:02x}")
        record = reader.take(int.from_bytes(length, "little"))
        found = _count(record)
        if found != count:
            raise MalformedEvidence(f"{found} measurement blocks, not {count}")
        nonce = reader.take(NONCE_SIZE)
        opaque = OpaqueData.from_bytes(reader.take(int.from_bytes(reader.take(2), "little")))
        signature = reader.take(SIGNATURE_SIZE)
        trailer = reader.rest()
        if trailer not in (b"", b"\0"):
            raise MalformedEvidence(f"{len(trailer)} bytes follow the signature")
        report = cls(
            request=request,
            measurement_record=record,
            responder_nonce=nonce,
            opaque=opaque,
            signature=signature,
            param1=param1,
            param2=param2,
            trailer=trailer,
        )
        # What is hashed and verified are the bytes as received, not what they would be written as.
        signed = raw[: len(raw) - SIGNATURE_SIZE - len(trailer)]
        report.__dict__.update(signed=signed, count=found)
        return report

    @cached_property
    def count(self) -> int:
        """The number of measurement blocks."""
        return _count(self.measurement_record)

    @cached_property
    def measurements(self) -> tuple[Measurement, ...]:
        """All measurement blocks, in the order sent."""
        return _blocks(self.measurement_record)

    @cached_property
    def measurement_digest(self) -> bytes:
        """SHA-384 of the measurement record: what a policy pins."""
        return hashlib.sha384(self.measurement_record).digest()

    @cached_property
    def signed(self) -> bytes:
        """The bytes under the signature: the request, and the response up to the signature."""
        return self._encoded()

    def _encoded(self) -> bytes:
        blocks, opaque = b"".join(block.to_bytes() for block in self.measurements), self.opaque.to_bytes()
        length = len(blocks).to_bytes(3, "little")
        head = _RESPONSE.pack(
            SPDM_VERSION, MEASUREMENTS, self.param1, self.param2, len(self.measurements), length
        )
        size = len(opaque).to_bytes(2, "little")
        return b"".join((self.request.to_bytes(), head, blocks, self.responder_nonce, size, opaque))

    def to_bytes(self) -> bytes:
        """The report as received."""
        return self._encoded() + self.signature + self.trailer

    def measurement(self, index: int) -> bytes | None:
        """The value of SPDM block `index`."""
        return self._values.get(index)

    @cached_property
    def _values(self) -> dict[int, bytes]:
        return {block.index: block.value for block in self.measurements}


@lru_cache(maxsize=64)
def gpu_report(raw: bytes) -> GpuReport:
    """The report in `raw`, parsed once for equal bytes: alone, and in the list it is part of."""
    return GpuReport.from_bytes(raw)


class _Reader:
    """Takes bytes from the front; MalformedEvidence when there are too few."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._offset = 0

    def take(self, size: int) -> bytes:
        end = self._offset + size
        if end > len(self._raw):
            raise MalformedEvidence(f"report of {len(self._raw)} bytes is cut short")
        taken = self._raw[self._offset : end]
        self._offset = end
        return taken

    def rest(self) -> bytes:
        return self._raw[self._offset :]


def _count(record: bytes) -> int:
    """How many measurement blocks fill `record`; MalformedEvidence if they are not of DMTF's form."""
    return _alike(record) or len(_blocks(record))


def _alike(record: bytes) -> int:
    """How many blocks there are if all are of the first one's size, as devices send them; else 0.

    Then their headers are columns of the record: all as in `_blocks`, but compared at once.
    """
    if len(record) < _BLOCK.size:
        return 0
    _, specification, outer, _, size = _BLOCK.unpack_from(record)
    span = _BLOCK.size + size
    count, rest = divmod(len(record), span)
    columns = (record[at::span] == record[at : at + 1] * count for at in (1, 2, 3, 5, 6))
    indices = record[::span]
    formed = specification == _DMTF and outer == size + 3 and not rest and all(columns)
    return count if formed and len(set(indices)) == count else 0


def _blocks(record: bytes) -> tuple[Measurement, ...]:
    blocks: list[Measurement] = []
    start, end, header = 0, len(record), _BLOCK.size
    while start < end:
        if end - start < header:
            raise MalformedEvidence("measurement record ends inside a block header")
        index, specification, outer, kind, size = _BLOCK.unpack_from(record, start)
        value = record[start + header : start + header + size]
        if specification != _DMTF or outer != size + 3 or len(value) < size:
            raise MalformedEvidence(f"measurement block {index} is not of DMTF's form")
        blocks.append(Measurement(index, kind, value))
        start += header + size
    if len({block.index for block in blocks}) != len(blocks):
        raise MalformedEvidence("a measurement index occurs twice")
    return tuple(blocks)
