"""The opaque data of NVIDIA's SPDM measurements: type, length, value, and the types with names."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple, Self

from ..errors import MalformedEvidence

_HEADER = struct.Struct("<HH")
_TEXT_LIMIT = 64
_PDI = 8
ENABLED = 0xAA
DISABLED = 0x55


class OpaqueType(IntEnum):
    """The opaque field types that NVIDIA names. Others occur in genuine reports and are kept."""

    CERT_ISSUER_NAME = 1
    CERT_AUTHORITY_KEY_IDENTIFIER = 2
    DRIVER_VERSION = 3
    GPU_INFO = 4
    SKU = 5
    VBIOS_VERSION = 6
    MANUFACTURER_ID = 7
    TAMPER_DETECTION = 8
    SMC = 9
    VPR = 10
    NVDEC0_STATUS = 11
    MSRSCNT = 12
    CPRINFO = 13
    BOARD_ID = 14
    CHIP_SKU = 15
    CHIP_SKU_MOD = 16
    PROJECT = 17
    PROJECT_SKU = 18
    PROJECT_SKU_MOD = 19
    FWID = 20
    PROTECTED_PCIE_STATUS = 21
    SWITCH_PDI = 22  # on a GPU: the switches it is linked to
    DEVICE_PDI = 22  # on a switch: its own
    FLOORSWEPT_PORTS = 23
    POSITION_ID = 24
    LOCK_SWITCH_STATUS = 25
    SWITCH_GPU_PDIS = 26
    SWITCH_PORTS = 27
    GPU_LINK_CONN = 32
    SYS_ENABLE_STATUS = 33
    OPAQUE_DATA_VERSION = 34
    CHIP_INFO = 35
    FEATURE_FLAG = 36


class FeatureFlag(IntEnum):
    """FEATURE_FLAG: how the GPU is passed to the guest. Absent on older drivers."""

    SINGLE_GPU = 0
    MULTI_GPU = 1
    PROTECTED_PCIE = 2


class OpaqueField(NamedTuple):
    """One field as received; `kind` is an OpaqueType where that names it."""

    kind: int
    value: bytes


@dataclass(frozen=True)
class OpaqueData:
    """The fields in the order received, each type at most once. Parsed, not verified.

    The accessors return None for an absent field and raise MalformedEvidence for one whose value
    has not the form of its type; `check` does so for all of them.
    """

    fields: tuple[OpaqueField, ...]

    @classmethod
    def of(cls, fields: Iterable[tuple[int, bytes]]) -> Self:
        """Opaque data from (type, value) pairs."""
        return cls(tuple(OpaqueField(int(kind), value) for kind, value in fields))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The fields in `raw`; MalformedEvidence if cut short, repeated, or of the wrong form."""
        fields: list[OpaqueField] = []
        start, end, header = 0, len(raw), _HEADER.size
        while start < end:
            if end - start < header:
                raise MalformedEvidence("opaque data ends inside a field header")
            kind, size = _HEADER.unpack_from(raw, start)
            start += header
            if end - start < size:
                raise MalformedEvidence(f"opaque field {kind} runs past the opaque data")
            fields.append(OpaqueField(kind, raw[start : start + size]))
            start += size
        if len({field.kind for field in fields}) != len(fields):
            raise MalformedEvidence("an opaque field occurs twice")
        data = cls(tuple(fields))
        data.check()
        return data

    def to_bytes(self) -> bytes:
        """The fields as the device sends them."""
        return b"".join(_HEADER.pack(field.kind, len(field.value)) + field.value for field in self.fields)

    def get(self, kind: OpaqueType) -> bytes | None:
        """The raw value of `kind`."""
        return self._values.get(kind)

    @cached_property
    def _values(self) -> dict[int, bytes]:
        return {field.kind: field.value for field in self.fields}

    def check(self) -> None:
        """MalformedEvidence if a field that verification reads has not the form of its type."""
        for kind, _ in self.fields:
            if kind in _TEXTS:
                self.text(_TEXTS[kind])
            elif kind in _SIZES:
                self._sized(*_SIZES[kind])
        _ = self.vbios_version, self.switch_pdis, self.gpu_pdis

    def text(self, kind: OpaqueType) -> str | None:
        """A field of printable ASCII, padded with NUL bytes at its end."""
        value = self.get(kind)
        if value is None:
            return None
        text = value.rstrip(b"\0").decode("latin-1")
        if len(value) > _TEXT_LIMIT or not (text.isascii() and text.isprintable()):
            raise MalformedEvidence(f"opaque field {kind.name} is not short ASCII text")
        return text

    @property
    def types(self) -> list[int]:
        """The types present, in rising order."""
        return sorted(field.kind for field in self.fields)

    @cached_property
    def driver_version(self) -> str | None:
        """Such as "550.90.07"."""
        return self.text(OpaqueType.DRIVER_VERSION)

    @cached_property
    def vbios_version(self) -> str | None:
        """Such as "96.00.5E.00.01": text on a switch, on a GPU a u32 and a byte, little-endian."""
        value = self.get(OpaqueType.VBIOS_VERSION)
        if value is None or len(value) != 8:
            return self.text(OpaqueType.VBIOS_VERSION)
        if any(value[5:]):
            raise MalformedEvidence("opaque field VBIOS_VERSION has bits beyond its five bytes")
        return ".".join(f"{byte:02X}" for byte in (*value[3::-1], value[4]))

    @property
    def nvdec0_status(self) -> int | None:
        """0xAA enabled, 0x55 disabled."""
        return self._byte(OpaqueType.NVDEC0_STATUS)

    @property
    def protected_pcie(self) -> int | None:
        """0xAA on, 0x55 off."""
        return self._byte(OpaqueType.PROTECTED_PCIE_STATUS)

    @property
    def fwid(self) -> bytes | None:
        """SHA-384 that identifies the device's firmware."""
        return self.get(OpaqueType.FWID)

    @property
    def feature_flag(self) -> int | None:
        """A FeatureFlag, or a number that has no name yet."""
        value = self.get(OpaqueType.FEATURE_FLAG)
        return None if value is None else int.from_bytes(value, "little")

    @cached_property
    def mode(self) -> str:
        """How a GPU is passed to its guest, in one word or two."""
        flag = self.feature_flag
        if self.protected_pcie == ENABLED or flag == FeatureFlag.PROTECTED_PCIE:
            return "protected-pcie"
        return _MODES.get(flag, f"mode {flag}")

    @property
    def chip_info(self) -> str | None:
        """The chip's own name, where the driver reports one."""
        return self.text(OpaqueType.CHIP_INFO)

    @property
    def device_pdi(self) -> str | None:
        """A switch's own per-device identifier, hexadecimal."""
        value = self.get(OpaqueType.DEVICE_PDI)
        return value.hex() if value is not None and len(value) == _PDI else None

    @property
    def switch_pdis(self) -> frozenset[str]:
        """The switches that a GPU is linked to; a link that is off names none."""
        return _pdis(self.get(OpaqueType.SWITCH_PDI) or b"")

    @property
    def gpu_pdis(self) -> frozenset[str]:
        """The GPUs that a switch is linked to: eight places, before the map of its ports."""
        return _pdis((self.get(OpaqueType.SWITCH_GPU_PDIS) or b"")[: 8 * _PDI])

    def _byte(self, kind: OpaqueType) -> int | None:
        value = self._sized(kind, 1)
        return None if value is None else value[0]

    def _sized(self, kind: OpaqueType, size: int) -> bytes | None:
        value = self.get(kind)
        if value is not None and len(value) != size:
            raise MalformedEvidence(f"opaque field {kind.name} is {len(value)} bytes, not {size}")
        return value


def _pdis(row: bytes) -> frozenset[str]:
    """The identifiers in `row`. Links name the other side in the reverse of its own byte order."""
    if len(row) % _PDI:
        raise MalformedEvidence("opaque data names devices in other than 8 bytes each")
    found = {row[i : i + _PDI][::-1].hex() for i in range(0, len(row), _PDI)}
    return frozenset(found - {bytes(_PDI).hex()})


_TEXTS = {
    int(kind): kind
    for kind in (
        OpaqueType.DRIVER_VERSION,
        OpaqueType.CHIP_SKU,
        OpaqueType.CHIP_SKU_MOD,
        OpaqueType.PROJECT,
        OpaqueType.PROJECT_SKU,
        OpaqueType.PROJECT_SKU_MOD,
        OpaqueType.CHIP_INFO,
    )
}
_SIZES = {
    int(kind): (kind, size)
    for kind, size in (
        (OpaqueType.NVDEC0_STATUS, 1),
        (OpaqueType.PROTECTED_PCIE_STATUS, 1),
        (OpaqueType.FWID, 48),
        (OpaqueType.FEATURE_FLAG, 2),
    )
}
_MODES: dict[int | None, str] = {None: "unnamed", 0: "single-gpu", 1: "multi-gpu"}
