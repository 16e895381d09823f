"""The SGX enclave report: an enclave's own in SGX quotes, the quoting enclave's in every quote."""

import struct
from dataclasses import dataclass
from typing import Self

from ..errors import MalformedEvidence

REPORT_SIZE = 384
DEBUG = 0x02
_LAYOUT = struct.Struct("<16sI12s16s16s32s32s32s32s64sHHH42s16s64s")


@dataclass(frozen=True, slots=True)
class EnclaveReport:
    """REPORTBODY (Intel SDM volume 3D, 39.16), 384 bytes little-endian, in its order. Parsed, not verified.

    `reserved1` to `reserved3` are kept for re-encoding.
    """

    cpusvn: bytes
    miscselect: int
    reserved1: bytes
    isvextprodid: bytes
    attributes: bytes
    mrenclave: bytes
    reserved2: bytes
    mrsigner: bytes
    reserved3: bytes
    configid: bytes
    isvprodid: int
    isvsvn: int
    configsvn: int
    reserved4: bytes
    isvfamilyid: bytes
    report_data: bytes

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The report in exactly 384 bytes; MalformedEvidence otherwise."""
        if len(raw) != REPORT_SIZE:
            raise MalformedEvidence(f"enclave report of {len(raw)} bytes, not {REPORT_SIZE}")
        return cls(*_LAYOUT.unpack(raw))

    def to_bytes(self) -> bytes:
        """The report's 384 bytes."""
        return _LAYOUT.pack(*(getattr(self, name) for name in self.__slots__))

    @property
    def debug(self) -> bool:
        """ATTRIBUTES.FLAGS.DEBUG: its memory is open to the platform's owner."""
        return bool(self.attributes[0] & DEBUG)
