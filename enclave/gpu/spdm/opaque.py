"""Opaque data of KEY_EXCHANGE: which versions of secured messages a side speaks (DSP0277, opaque data).

1.1 has the general opaque data table under DMTF's identifier, 1.2 the shorter OpaqueDataFmt1. Elements of
other organisations are skipped.
"""

from collections.abc import Sequence
from typing import Final

from .codes import SPDM_12
from .errors import MalformedMessage, RemoteProtocolError
from .octets import Reader, number

_DMTF_TABLE: Final = 0x444D5446
_TABLE_VERSION: Final = 1
_DMTF_ID: Final = 0
_DATA_VERSION: Final = 1
_SELECTED: Final = 0
_SUPPORTED: Final = 1
_MAX_OPAQUE: Final = 1024
SECURED_VERSIONS: Final = (0x1000, 0x1100, 0x1200)
"""Versions 1.0, 1.1 and 1.2 of DSP0277: what their records look like is the same here."""


def supported_versions(spdm: int, versions: Sequence[int] = SECURED_VERSIONS) -> bytes:
    """The requester's opaque data."""
    data = bytes((_DATA_VERSION, _SUPPORTED, len(versions)))
    return _table(spdm, data + b"".join(number(version, 2) for version in versions))


def selected_version(spdm: int, version: int) -> bytes:
    """The responder's opaque data."""
    return _table(spdm, bytes((_DATA_VERSION, _SELECTED)) + number(version, 2))


def read_supported(spdm: int, opaque: bytes) -> tuple[int, ...]:
    """The versions that a requester offers. Raises RemoteProtocolError."""
    reader = _element(spdm, opaque, _SUPPORTED)
    return tuple(reader.number(2) for _ in range(reader.number(1)))


def read_selected(spdm: int, opaque: bytes) -> int:
    """The version that a responder chose. Raises RemoteProtocolError."""
    return _element(spdm, opaque, _SELECTED).number(2)


def elements(spdm: int, opaque: bytes) -> list[tuple[int, bytes, bytes]]:
    """(organisation, vendor id, data) of each element. Raises MalformedMessage."""
    if len(opaque) > _MAX_OPAQUE:
        raise MalformedMessage(f"{len(opaque)} bytes of opaque data exceed {_MAX_OPAQUE}")
    reader = Reader(opaque)
    if spdm >= SPDM_12:
        count = reader.number(1)
        reader.take(3)
    else:
        if (reader.number(4), reader.number(1)) != (_DMTF_TABLE, _TABLE_VERSION):
            raise MalformedMessage("opaque data is not DMTF's general table")
        count = reader.number(1)
        reader.take(2)
    found = [_read(reader) for _ in range(count)]
    if any(reader.rest()):
        raise MalformedMessage("opaque data does not end after its last element")
    return found


def _read(reader: Reader) -> tuple[int, bytes, bytes]:
    organisation = reader.number(1)
    vendor = reader.take(reader.number(1))
    size = reader.number(2)
    data = reader.take(size)
    reader.take(min(-(4 + len(vendor) + size) % 4, reader.left()))
    return organisation, vendor, data


def _element(spdm: int, opaque: bytes, wanted: int) -> Reader:
    for organisation, _, data in elements(spdm, opaque):
        if organisation == _DMTF_ID and data[:2] == bytes((_DATA_VERSION, wanted)):
            reader = Reader(data)
            reader.take(2)
            return reader
    raise RemoteProtocolError("opaque data names no version of secured messages (DSP0277)")


def _table(spdm: int, data: bytes) -> bytes:
    if spdm >= SPDM_12:
        head = bytes((1, 0, 0, 0))
    else:
        head = number(_DMTF_TABLE, 4) + bytes((_TABLE_VERSION, 1, 0, 0))
    element = bytes((_DMTF_ID, 0)) + number(len(data), 2) + data
    return head + element + bytes(-len(element) % 4)
