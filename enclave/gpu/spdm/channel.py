"""One session's keys, phase and transcripts: the same for requester and responder."""

import hmac

from .codes import KeyOperation
from .errors import LocalProtocolError, SessionLost, SignatureRefused
from .schedule import DataSecrets, HandshakeSecrets, erase
from .secured import Direction
from .states import State, Step, after
from .transcript import MeasurementTranscript, SessionTranscript


class SecureChannel:
    """Keys of a session from KEY_EXCHANGE_RSP on; `request` and `response` seal and open its records."""

    def __init__(
        self,
        session_id: bytes,
        slot: int,
        secrets: HandshakeSecrets,
        transcript: SessionTranscript,
        sequence_size: int,
    ) -> None:
        self.session_id = session_id
        self.slot = slot
        self.state = State.HANDSHAKE
        self.finished = False
        self.transcript = transcript
        self.measurements = MeasurementTranscript()
        self._version = secrets.version
        self._sequence_size = sequence_size
        self._handshake = secrets
        self._data: DataSecrets | None = None
        self.request = self._direction(bytearray(secrets.request))
        self.response = self._direction(bytearray(secrets.response))
        self._next_request: Direction | None = None
        self._next_response: Direction | None = None

    def _direction(self, secret: bytearray) -> Direction:
        return Direction(self._version, secret, self.session_id, self._sequence_size)

    @property
    def established(self) -> bool:
        """Whether its handshake is done and it has not ended."""
        return self.state in (State.ESTABLISHED, State.UPDATING)

    def step(self, step: Step) -> State:
        """The state after `step`. Raises LocalProtocolError if it is out of turn."""
        following = after(self.state, step)
        if following is None:
            raise LocalProtocolError(f"{step.name} is out of turn: {self.state.value}")
        return following

    def requester_verify_data(self) -> bytes:
        """RequesterVerifyData over the transcript up to FINISH's header."""
        return self._handshake.verify_data(self._handshake.request, self.transcript.hash)

    def responder_verify_data(self) -> bytes:
        """ResponderVerifyData over the transcript so far."""
        return self._handshake.verify_data(self._handshake.response, self.transcript.hash)

    def check(self, expected: bytes, received: bytes, what: str) -> None:
        """Compare two HMACs in constant time. Raises SignatureRefused."""
        if not hmac.compare_digest(expected, received):
            raise SignatureRefused(f"{what} does not verify")

    def establish(self) -> None:
        """FINISH_RSP has been exchanged: data keys take the place of the handshake's."""
        data = self._handshake.data(self.transcript.hash)
        self.request.erase()
        self.response.erase()
        self._data = data
        self.request = self._direction(data.request)
        self.response = self._direction(data.response)
        self.state = State.ESTABLISHED

    @property
    def export_master_secret(self) -> bytearray:
        """The export master secret, 48 bytes: the session's own, which `erase` zeroes."""
        if self._data is None or self.state is State.ENDED:
            raise LocalProtocolError("no session is established")
        return self._data.export

    def open_response(self, record: bytes) -> bytes:
        """The application data of a response. Raises SessionLost.

        While an update of all keys is under way the first record under the new ones retires the old, which
        still carry an ERROR.
        """
        if self._next_response is None:
            return self.response.open(record)
        try:
            data = self._next_response.open(record)
        except SessionLost:
            return self.response.open(record)
        self.adopt_response()
        return data

    def prepare_update(self, operation: KeyOperation) -> None:
        """KEY_UPDATE: new request keys for VerifyNewKey, and with UpdateAllKeys new response keys."""
        self.cancel_update()
        self._next_request = self.request.update()
        if operation is KeyOperation.UPDATE_ALL_KEYS:
            self._next_response = self.response.update()

    def adopt_response(self) -> None:
        """Use the new response keys, if there are any; the old ones are erased."""
        if self._next_response is not None:
            self.response.erase()
            self.response, self._next_response = self._next_response, None

    def complete_update(self) -> None:
        """Use every new key; the old ones are erased."""
        self.adopt_response()
        if self._next_request is not None:
            self.request.erase()
            self.request, self._next_request = self._next_request, None

    def cancel_update(self) -> None:
        """Erase keys that were prepared and never used."""
        for direction in (self._next_request, self._next_response):
            if direction is not None:
                direction.erase()
        self._next_request = self._next_response = None

    def erase(self) -> None:
        """End: zero every secret."""
        self.state = State.ENDED
        self._handshake.erase()
        self.cancel_update()
        self.request.erase()
        self.response.erase()
        if self._data is not None:
            erase(self._data.export)
