"""Secured messages (DSP0277): AES-256-GCM records, one counter a direction, nonces that never travel.

record     = session ID (4) || sequence number (0 or 2) || Length (2) || ciphertext || tag (16)
plaintext  = ApplicationDataLength (2) || application data || random padding
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import LocalProtocolError, MalformedMessage, SessionLost
from .octets import Reader, number
from .schedule import IV_SIZE, KEY_SIZE, erase, expand

TAG_SIZE: Final = 16
LAST_SEQUENCE: Final = 2**64 - 2
_ID_SIZE: Final = 4


def session_of(record: bytes) -> bytes:
    """The session ID at the front of a record: 2 bytes of the requester's, 2 of the responder's."""
    if len(record) < _ID_SIZE:
        raise MalformedMessage("a record without session ID")
    return record[:_ID_SIZE]


class Direction:
    """One direction's secret, key, IV and counter."""

    def __init__(
        self, version: int, secret: bytearray, session_id: bytes, sequence_size: int, *, start: int = 0
    ) -> None:
        """Takes `secret` over: it is erased at the next update or at the end."""
        self._version = version
        self._session_id = session_id
        self._sequence_size = sequence_size
        self._secret = secret
        self._install(start)

    def _install(self, start: int = 0) -> None:
        key = expand(self._version, self._secret, "key", length=KEY_SIZE)
        self._aead: AESGCM | None = AESGCM(key)
        erase(key)
        self._iv = expand(self._version, self._secret, "iv", length=IV_SIZE)
        self._next = start

    @property
    def sequence(self) -> int:
        """The number of the next record."""
        return self._next

    def update(self) -> "Direction":
        """The next keys of this direction, counter 0; these here stay in use until erased."""
        following = expand(self._version, self._secret, "traffic upd")
        return Direction(self._version, following, self._session_id, self._sequence_size)

    def seal(self, data: bytes, padding: bytes = b"") -> bytes:
        """A record. Raises LocalProtocolError when the counter has run out or the keys are erased."""
        plaintext = number(len(data), 2) + data + padding
        head = self._session_id + self._on_wire() + number(len(plaintext) + TAG_SIZE, 2)
        aead, nonce = self._current()
        self._next += 1
        return head + aead.encrypt(nonce, plaintext, head)

    def open(self, record: bytes) -> bytes:
        """The application data of a record. Raises MalformedMessage, SessionLost."""
        reader = Reader(record)
        session_id, sequence, length = (
            reader.take(_ID_SIZE),
            reader.take(self._sequence_size),
            reader.number(2),
        )
        head = record[: reader.offset]
        body = reader.take(length)
        if session_id != self._session_id or sequence != self._on_wire():
            raise SessionLost("a record of another session, or out of sequence")
        if any(reader.rest()):  # a transport pads with zeros
            raise MalformedMessage("bytes follow a record")
        aead, nonce = self._current()
        try:
            plaintext = Reader(aead.decrypt(nonce, body, head))
        except InvalidTag:
            raise SessionLost("a record does not open") from None
        self._next += 1
        return plaintext.take(plaintext.number(2))

    def erase(self) -> None:
        """Zero secret and IV, let go of the key."""
        erase(self._secret, self._iv)
        self._aead = None

    def _on_wire(self) -> bytes:
        low = self._next & (1 << 8 * self._sequence_size) - 1
        return number(low, self._sequence_size)

    def _current(self) -> tuple[AESGCM, bytes]:
        if self._aead is None:
            raise LocalProtocolError("the session's keys are erased: establish a new session")
        if self._next > LAST_SEQUENCE:
            raise LocalProtocolError("the sequence number has run out: update the keys in time")
        mask = number(self._next, 8) + bytes(IV_SIZE - 8)
        return self._aead, bytes(a ^ b for a, b in zip(self._iv, mask, strict=True))
