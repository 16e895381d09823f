"""How messages and records are carried: MCTP (DSP0275, DSP0276), TCP (DSP0287); PCI DOE is in doe.py.

A binding turns a message into one transport packet and back. Cutting a byte stream into packets is the
transport's business, but that TCP's and DOE's headers tell their lengths (`packet_size`).
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from .errors import MalformedMessage
from .octets import number


class Kind(Enum):
    """What a packet carries."""

    MESSAGE = "message"
    RECORD = "record"


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet's kind and content; the content may be padded with up to `Binding.padding` zero bytes."""

    kind: Kind
    body: bytes


class Binding(Protocol):
    """One transport's form. `sequence_size` bytes of the sequence number travel with a record."""

    @property
    def sequence_size(self) -> int: ...

    @property
    def padding(self) -> int:
        """Most zero bytes that the transport adds to a message."""

    @property
    def random_padding(self) -> bool:
        """Whether plaintexts of records may be padded."""

    def wrap(self, packet: Packet) -> bytes:
        """The packet as sent."""

    def unwrap(self, raw: bytes) -> Packet:
        """The packet in `raw`. Raises MalformedMessage."""

    def enclose(self, message: bytes) -> bytes:
        """An SPDM message as the application data of a record."""

    def disclose(self, data: bytes) -> bytes:
        """The SPDM message in application data. Raises MalformedMessage."""


class Mctp:
    """MCTP: one byte of message type before everything, and again before the plaintext of a record."""

    sequence_size = 2
    padding = 0
    random_padding = True
    _TYPES: Final = {Kind.MESSAGE: 0x05, Kind.RECORD: 0x06}

    def wrap(self, packet: Packet) -> bytes:
        return bytes((self._TYPES[packet.kind],)) + packet.body

    def unwrap(self, raw: bytes) -> Packet:
        for kind, number_ in self._TYPES.items():
            if raw[:1] == bytes((number_,)):
                return Packet(kind, raw[1:])
        raise MalformedMessage(f"MCTP message type {raw[:1].hex() or 'missing'} is neither SPDM nor secured")

    def enclose(self, message: bytes) -> bytes:
        return bytes((self._TYPES[Kind.MESSAGE],)) + message

    def disclose(self, data: bytes) -> bytes:
        if data[:1] != bytes((self._TYPES[Kind.MESSAGE],)):
            raise MalformedMessage("a record holds application data where SPDM is due")
        return data[1:]


class Tcp:
    """TCP: Length (2, of what follows it), version 1, type; the same before the plaintext of a record."""

    sequence_size = 0
    padding = 0
    random_padding = False
    HEADER: Final = 4
    _VERSION: Final = 1
    _TYPES: Final = {Kind.MESSAGE: 0x05, Kind.RECORD: 0x06}

    def wrap(self, packet: Packet) -> bytes:
        head = bytes((self._VERSION, self._TYPES[packet.kind]))
        return number(len(packet.body) + len(head), 2) + head + packet.body

    def unwrap(self, raw: bytes) -> Packet:
        if len(raw) < self.HEADER or self.packet_size(raw) != len(raw) or raw[2] != self._VERSION:
            raise MalformedMessage("not a packet of the TCP binding, version 1")
        for kind, number_ in self._TYPES.items():
            if raw[3] == number_:
                return Packet(kind, raw[self.HEADER :])
        raise MalformedMessage(f"TCP message type {raw[3]:#04x} is neither SPDM nor secured")

    def enclose(self, message: bytes) -> bytes:
        return self.wrap(Packet(Kind.MESSAGE, message))

    def disclose(self, data: bytes) -> bytes:
        packet = self.unwrap(data)
        if packet.kind is not Kind.MESSAGE:
            raise MalformedMessage("a record holds application data where SPDM is due")
        return packet.body

    def packet_size(self, head: bytes) -> int:
        """Bytes of the packet whose first HEADER bytes are `head`."""
        return int.from_bytes(head[:2], "little") + 2
