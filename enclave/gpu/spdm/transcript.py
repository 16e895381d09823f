"""Which bytes are signed and hashed (DSP0274: M1/M2, L1/L2 and TH), kept as they are exchanged.

Both sides keep the same: the requester when a response is there, the responder when it answers.
"""

import hashlib
from typing import Final

from .codes import SPDM_12, Code
from .errors import RemoteProtocolError

_RESETS_M: Final = frozenset(
    {
        Code.GET_MEASUREMENTS,
        Code.KEY_EXCHANGE,
        Code.FINISH,
        Code.HEARTBEAT,
        Code.KEY_UPDATE,
        Code.END_SESSION,
    }
)


MAX_UNSIGNED: Final = 1 << 20
"""Bytes kept of exchanges that no signature has ended: a requester of whom nothing is known could go on."""


class MeasurementTranscript:
    """L1/L2: the measurement exchanges since the last signature. Each session has its own."""

    def __init__(self) -> None:
        self._exchanges = bytearray()

    def add(self, request: bytes, response: bytes) -> None:
        """An exchange without a signature. Raises RemoteProtocolError beyond 1 MiB."""
        _extend(self._exchanges, request + response)

    def signed(self, request: bytes, response: bytes) -> bytes:
        """The exchanges up to this signed one (`response` without its signature); begins anew."""
        made = bytes(self._exchanges) + request + response
        self.reset()
        return made

    def reset(self) -> None:
        """Begin anew: after a signature, an ERROR, any other request."""
        self._exchanges.clear()


class Transcript:
    """VCA and M1/M2 of a connection, and L1/L2 outside of sessions."""

    def __init__(self, version: int = 0) -> None:
        self.version = version
        self._vca = bytearray()
        self._certificates = bytearray()
        self.measurements = MeasurementTranscript()

    @property
    def vca(self) -> bytes:
        """GET_VERSION to ALGORITHMS."""
        return bytes(self._vca)

    def add_vca(self, request: bytes, response: bytes) -> None:
        """One of the three exchanges of negotiation."""
        self._vca += request + response

    def add_certificates(self, request: bytes, response: bytes) -> None:
        """Digests or a part of a chain, outside of a session. Raises RemoteProtocolError beyond 1 MiB."""
        _extend(self._certificates, request + response)

    def begin(self, code: Code, within: MeasurementTranscript | None = None) -> None:
        """A request of `code`, in the session with L1/L2 `within` or outside: resets what it resets."""
        if code is not Code.GET_MEASUREMENTS:
            (within or self.measurements).reset()
        if code in _RESETS_M:
            self._certificates.clear()

    def challenge(self, request: bytes, response: bytes) -> bytes:
        """M1/M2, `response` without its signature; begins anew."""
        made = self.vca + bytes(self._certificates) + request + response
        self._certificates.clear()
        return made

    def l1l2(self, exchanges: bytes) -> bytes:
        """L1/L2 from the exchanges: VCA goes before them from 1.2 on."""
        return self.vca + exchanges if self.version >= SPDM_12 else exchanges


class SessionTranscript:
    """TH of one session: VCA, the chain's hash, KEY_EXCHANGE, KEY_EXCHANGE_RSP, FINISH, FINISH_RSP."""

    def __init__(self, vca: bytes, chain_digest: bytes) -> None:
        self._messages = bytearray(vca + chain_digest)

    def add(self, message: bytes) -> None:
        """A message, or the next part of one."""
        self._messages += message

    @property
    def raw(self) -> bytes:
        """All there is, as it is signed."""
        return bytes(self._messages)

    @property
    def hash(self) -> bytes:
        """SHA-384 over all there is."""
        return hashlib.sha384(self._messages).digest()


def _extend(kept: bytearray, exchange: bytes) -> None:
    if len(kept) + len(exchange) > MAX_UNSIGNED:
        raise RemoteProtocolError(f"more than {MAX_UNSIGNED} bytes were exchanged without a signature")
    kept += exchange
