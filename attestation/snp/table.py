"""The certificate table that a host hands to a guest with an extended report (GHCB 2.03, section 4.1.8.1)."""

import struct
from collections.abc import Iterator

from ..errors import MalformedEvidence


def _guid(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


ARK = _guid("c0b406a4-a803-4952-9743-3fb6014cd0ae")
ASK = _guid("4ab7b379-bbac-4fe4-a02f-05aef327c782")
VCEK = _guid("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK = _guid("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
CRL = _guid("92f81bc3-5811-4d3d-97ff-d19f88dc67ea")
CERTIFICATES = frozenset({ARK, ASK, VCEK, VLEK})

MAX_TABLE = 1024 * 1024
MAX_ENTRIES = 32
_ENTRY = struct.Struct("<16sII")


def read_table(raw: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The entries in order; MalformedEvidence if one lies outside the table or no end is marked.

    GUIDs are 16 bytes in RFC 4122 order; offsets count from the start of the table. Contents are DER or PEM.
    """
    if len(raw) > MAX_TABLE:
        raise MalformedEvidence(f"certificate table of {len(raw)} bytes exceeds {MAX_TABLE}")
    return tuple(_entries(raw))


def _entries(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    for index in range(MAX_ENTRIES):
        if len(raw) < (index + 1) * _ENTRY.size:
            raise MalformedEvidence("certificate table has no end")
        guid, offset, size = _ENTRY.unpack_from(raw, index * _ENTRY.size)
        if guid == bytes(16):
            return
        if not size or offset + size > len(raw):
            raise MalformedEvidence("certificate table entry lies outside the table")
        yield guid, raw[offset : offset + size]
    raise MalformedEvidence(f"certificate table has more than {MAX_ENTRIES} entries")
