"""What the leaf certificate says of the firmware that holds its key: the DICE extensions."""

from dataclasses import dataclass
from typing import Self

from .. import der
from ..der import Element
from ..errors import MalformedEvidence
from ..pkix import ObjectIdentifier

DICE_TCB_INFO = ObjectIdentifier("2.23.133.5.4.1.1")
COMPOSITE_DEVICE_ID = ObjectIdentifier("2.23.133.5.4.1")

_SHA384 = bytes.fromhex("608648016503040202")
_FWIDS = 0xA6
_FLAGS = 0x87
_NOT_SECURE, _RECOVERY, _DEBUG = 1, 2, 3
_NAMES = {_NOT_SECURE: "notSecure", _RECOVERY: "recovery", _DEBUG: "debug"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbInfo:
    """The firmware identity under OID 2.23.133.5.4.1.1 (DiceTcbInfo) or .1 (the older, composite form).

    `fwids` are SHA-384 digests, the first the one that the device reports. `flags` are the numbers
    of the operational flags that are set (DICE Attestation Architecture 1.1, 6.1.1); the older form
    has none, so there it is None.
    """

    fwids: tuple[bytes, ...]
    flags: frozenset[int] | None

    @classmethod
    def from_der(cls, oid: ObjectIdentifier, raw: bytes) -> Self:
        """The extension value; MalformedEvidence if it is not of the form of its OID."""
        body = der.only(raw, der.SEQUENCE)
        return cls._dice(body) if oid == DICE_TCB_INFO else cls._composite(body)

    @classmethod
    def _dice(cls, body: Element) -> Self:
        fields = list(body.children())
        tagged = {item.tag: item for item in fields}
        if len(tagged) != len(fields):
            raise MalformedEvidence("TCB info with a repeated field")
        fwids = tagged[_FWIDS].children() if _FWIDS in tagged else ()
        flags = _bits(tagged[_FLAGS].content) if _FLAGS in tagged else frozenset[int]()
        return cls(fwids=tuple(_fwid(item) for item in fwids), flags=flags)

    @classmethod
    def _composite(cls, body: Element) -> Self:
        """CompositeDeviceID: version, the device's public key, its FWID."""
        fields = body.children()
        fields.take(der.INTEGER)
        fields.take(der.SEQUENCE)
        fwid = _fwid(fields.take())
        fields.close()
        return cls(fwids=(fwid,), flags=None)

    @property
    def unsafe(self) -> list[str]:
        """The names of the flags that say the firmware is not in a state to be trusted."""
        return [name for bit, name in _NAMES.items() if bit in (self.flags or ())]


def _fwid(item: Element) -> bytes:
    """The digest in a FWID, whose algorithm must be SHA-384."""
    parts = der.only(item.raw, der.SEQUENCE).children()
    algorithm, digest = parts.take(der.OID), parts.take(der.OCTET_STRING)
    parts.close()
    if algorithm.content != _SHA384 or len(digest.content) != 48:
        raise MalformedEvidence("FWID is not a SHA-384 digest")
    return digest.content


def _bits(content: bytes) -> frozenset[int]:
    """Numbers of the bits set in a BIT STRING, the first being bit 0."""
    if not content or content[0] > 7 or len(content) > 9:
        raise MalformedEvidence("TCB flags are not a short BIT STRING")
    octets = content[1:]
    return frozenset(
        8 * i + bit for i, octet in enumerate(octets) for bit in range(8) if octet & (0x80 >> bit)
    )
