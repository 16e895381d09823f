"""PCI Data Object Exchange: SPDM and secured SPDM in data objects of whole 4-byte words, and discovery."""

from dataclasses import dataclass
from typing import Final, Self

from .bindings import Kind, Packet
from .errors import LocalProtocolError, MalformedMessage, RemoteProtocolError
from .flow import Flow, Send
from .octets import Reader, number

PCI_SIG: Final = 0x0001
HEADER: Final = 8
_WORD: Final = 4
_MAX_WORDS: Final = 1 << 18
_DISCOVERY: Final = 0
_TYPES: Final = {Kind.MESSAGE: 1, Kind.RECORD: 2}


@dataclass(frozen=True, slots=True)
class DataObject:
    """A data object: `vendor`, `kind`, `body` in whole words. 2^18 words are written as length 0."""

    vendor: int
    kind: int
    body: bytes
    reserved: int = 0

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The object that is all of `raw`. Raises MalformedMessage."""
        reader = Reader(raw)
        vendor, kind, reserved = reader.number(2), reader.number(1), reader.number(1)
        length = reader.number(4)
        if length >= _MAX_WORDS or (length or _MAX_WORDS) * _WORD != len(raw) or len(raw) < HEADER:
            raise MalformedMessage(f"a data object of {len(raw)} bytes names {length} words")
        return cls(vendor, kind, reader.rest(), reserved)

    def to_bytes(self) -> bytes:
        """The object as sent. LocalProtocolError unless it fits."""
        words = (HEADER + len(self.body)) // _WORD
        if len(self.body) % _WORD or words > _MAX_WORDS:
            raise LocalProtocolError("a data object has whole words, 2^18 at most")
        head = number(self.vendor, 2) + bytes((self.kind, self.reserved))
        return head + number(words % _MAX_WORDS, 4) + self.body


class PciDoe:
    """The binding: zero padding to whole words outside, nothing inside a record."""

    sequence_size = 0
    padding = _WORD - 1
    random_padding = False

    def wrap(self, packet: Packet) -> bytes:
        body = packet.body + bytes(-len(packet.body) % _WORD)
        return DataObject(PCI_SIG, _TYPES[packet.kind], body).to_bytes()

    def unwrap(self, raw: bytes) -> Packet:
        item = DataObject.from_bytes(raw)
        for kind, number_ in _TYPES.items():
            if (item.vendor, item.kind) == (PCI_SIG, number_):
                return Packet(kind, item.body)
        raise MalformedMessage(f"a data object of vendor {item.vendor:#06x}, type {item.kind}, is not SPDM")

    def enclose(self, message: bytes) -> bytes:
        return message

    def disclose(self, data: bytes) -> bytes:
        return data

    def packet_size(self, head: bytes) -> int:
        """Bytes of the object whose first HEADER bytes are `head`."""
        return (int.from_bytes(head[4:8], "little") % _MAX_WORDS or _MAX_WORDS) * _WORD


def discover() -> Flow[tuple[tuple[int, int], ...]]:
    """Ask for every protocol of the mailbox: (vendor, type) pairs, in its order."""
    found: list[tuple[int, int]] = []
    index = 0
    while True:
        answer = DataObject.from_bytes((yield Send(discovery_request(index))))
        if (answer.vendor, answer.kind) != (PCI_SIG, _DISCOVERY) or len(answer.body) != _WORD:
            raise RemoteProtocolError("the mailbox does not answer DOE discovery")
        found.append((int.from_bytes(answer.body[:2], "little"), answer.body[2]))
        following = answer.body[3]
        if not following:
            return tuple(found)
        if following <= index:
            raise RemoteProtocolError("DOE discovery does not come to an end")
        index = following


def discovery_request(index: int) -> bytes:
    """The data object that asks for protocol `index`."""
    return DataObject(PCI_SIG, _DISCOVERY, bytes((index, 0, 0, 0))).to_bytes()


PROTOCOLS: Final = ((PCI_SIG, _DISCOVERY), *((PCI_SIG, number_) for number_ in _TYPES.values()))


def answer_discovery(raw: bytes) -> bytes | None:
    """The mailbox's answer if `raw` is a discovery request, else None."""
    try:
        item = DataObject.from_bytes(raw)
    except MalformedMessage:
        return None
    if (item.vendor, item.kind) != (PCI_SIG, _DISCOVERY) or len(item.body) != _WORD:
        return None
    index = item.body[0]
    if index >= len(PROTOCOLS):
        return DataObject(PCI_SIG, _DISCOVERY, b"\xff\xff\xff\0").to_bytes()
    vendor, kind = PROTOCOLS[index]
    following = (index + 1) % len(PROTOCOLS)
    return DataObject(PCI_SIG, _DISCOVERY, number(vendor, 2) + bytes((kind, following))).to_bytes()
