"""The responder's side: answers one packet with one packet, whatever the bytes are. Sans-IO."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from . import answers, handshakes
from .bindings import Binding, Kind, Packet
from .chain import CertificateChain
from .channel import SecureChannel
from .codes import RESPONDER_FLAGS, SPDM_10, SPDM_11, SPDM_12, Code, ErrorCode
from .doe import PciDoe, answer_discovery
from .entropy import Entropy
from .errors import LocalProtocolError, MalformedMessage, RemoteProtocolError, SessionLost
from .messages import Error, MeasurementBlock, Message, decode
from .refusal import Refusal
from .secured import session_of
from .states import State, Step, after
from .transcript import Transcript

TRANSFER_SIZE: Final = 4608
HEARTBEAT_PERIOD: Final = 240

_Answer = Callable[["Responder", Any, bytes, SecureChannel | None], bytes]
_ANSWERS: Final[Mapping[Code, _Answer]] = {
    Code.GET_VERSION: answers.get_version,
    Code.GET_CAPABILITIES: answers.get_capabilities,
    Code.NEGOTIATE_ALGORITHMS: answers.negotiate_algorithms,
    Code.GET_DIGESTS: answers.get_digests,
    Code.GET_CERTIFICATE: answers.get_certificate,
    Code.CHALLENGE: answers.challenge,
    Code.GET_MEASUREMENTS: answers.get_measurements,
    Code.KEY_EXCHANGE: handshakes.key_exchange,
    Code.FINISH: handshakes.finish,
    Code.HEARTBEAT: answers.heartbeat,
    Code.KEY_UPDATE: answers.key_update,
    Code.END_SESSION: answers.end_session,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a device is: its chains by slot, and `sign(slot, message)`, which gives R || S over SHA-384."""

    chains: Mapping[int, CertificateChain]
    sign: Callable[[int, bytes], bytes] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Responses:
    """What a device says of itself. `measurements(raw)` gives its blocks, as values where `raw`.

    `opaque` is MEASUREMENTS' opaque data. `unchanged` is 1.2's answer to whether measurements changed:
    0x20, they did not. `application` answers application data; without it there is none.
    """

    measurements: Callable[[bool], Sequence[MeasurementBlock]]
    opaque: Callable[[], bytes] = bytes
    unchanged: int = 0x20
    heartbeat_period: int = HEARTBEAT_PERIOD
    application: Callable[[SecureChannel, bytes], bytes] | None = None


class Responder:
    """One connection from a requester. `respond` never raises for what a peer sends."""

    def __init__(
        self,
        binding: Binding,
        identity: Identity,
        responses: Responses,
        *,
        versions: Sequence[int] = (SPDM_11, SPDM_12),
        flags: int = RESPONDER_FLAGS,
        entropy: Entropy | None = None,
        transfer_size: int = TRANSFER_SIZE,
    ) -> None:
        self.binding = binding
        self.identity = identity
        self.responses = responses
        self.versions = tuple(sorted(versions))
        self.flags = flags
        self.entropy = entropy or Entropy()
        self.transfer_size = transfer_size
        self.peer_flags = 0
        self.peer_transfer_size = 0
        self.state = State.START
        self.transcript = Transcript()
        self.sessions: dict[bytes, SecureChannel] = {}

    @property
    def version(self) -> int:
        """The agreed version; 1.0 before there is one."""
        return self.transcript.version or SPDM_10

    def respond(self, raw: bytes) -> bytes:
        """The answer to one packet."""
        if isinstance(self.binding, PciDoe) and (found := answer_discovery(raw)) is not None:
            return found
        try:
            packet = self.binding.unwrap(raw)
        except MalformedMessage:
            return self._plain(self.error(ErrorCode.INVALID_REQUEST))
        if packet.kind is Kind.RECORD:
            return self._record(packet.body)
        return self._plain(self._answer(packet.body, None, padding=self.binding.padding))

    def forget(self) -> None:
        """Erase every session and begin anew."""
        for channel in self.sessions.values():
            channel.erase()
        self.sessions.clear()
        self.state = State.START
        self.transcript = Transcript()

    def end(self, channel: SecureChannel) -> None:
        """Erase one session."""
        channel.erase()
        self.sessions.pop(channel.session_id, None)

    def error(self, code: ErrorCode, data: int = 0) -> bytes:
        """An ERROR in the agreed version."""
        return Error(version=self.version, param1=code, param2=data).to_bytes()

    def _plain(self, message: bytes) -> bytes:
        return self.binding.wrap(Packet(Kind.MESSAGE, message))

    def _record(self, record: bytes) -> bytes:
        """The answer to a record: one that does not open ends its session."""
        try:
            channel = self.sessions.get(session_of(record))
            if channel is None:
                raise SessionLost("no such session")
            data = channel.request.open(record)
        except RemoteProtocolError:
            if (channel := self.sessions.get(record[:4])) is not None:
                self.end(channel)
            return self._plain(self.error(ErrorCode.DECRYPT_ERROR))
        answer = self._inside(channel, data)
        padding = self.entropy.padding() if self.binding.random_padding else b""
        sealed = self.binding.wrap(Packet(Kind.RECORD, channel.response.seal(answer, padding)))
        self._settle(channel)
        return sealed

    def _inside(self, channel: SecureChannel, data: bytes) -> bytes:
        try:
            message = self.binding.disclose(data)
        except MalformedMessage:
            if self.responses.application is None or after(channel.state, Step.APPLICATION) is None:
                return self.binding.enclose(self.error(ErrorCode.UNSUPPORTED_REQUEST))
            return self.responses.application(channel, data)
        return self.binding.enclose(self._answer(message, channel))

    def _settle(self, channel: SecureChannel) -> None:
        """What takes effect once the answer is sealed under the old keys."""
        if channel.state is State.HANDSHAKE and channel.finished:
            channel.establish()
        elif channel.state is State.UPDATING:
            channel.complete_update()
        elif channel.state is State.ENDED:
            self.end(channel)

    def _answer(self, raw: bytes, channel: SecureChannel | None, *, padding: int = 0) -> bytes:
        try:
            request, exact = self._parse(raw, padding)
            self._check_turn(request, channel)
            self.transcript.begin(request.CODE, channel.measurements if channel else None)
            answer = _ANSWERS[request.CODE](self, request, exact, channel)
            if len(answer) > (self.peer_transfer_size or len(answer)):
                raise Refusal(ErrorCode.RESPONSE_TOO_LARGE)
            return answer
        except Refusal as refusal:
            return self.error(refusal.code, refusal.data)
        except (RemoteProtocolError, LocalProtocolError):
            return self.error(ErrorCode.INVALID_REQUEST)

    def _parse(self, raw: bytes, padding: int) -> tuple[Message, bytes]:
        if len(raw) < 4:
            raise Refusal(ErrorCode.INVALID_REQUEST)
        if raw[1] not in _ANSWERS:
            raise Refusal(ErrorCode.UNSUPPORTED_REQUEST, raw[1])
        if raw[1] != Code.GET_VERSION and self.state is State.START:
            raise Refusal(ErrorCode.UNEXPECTED_REQUEST)
        if raw[0] not in self._acceptable(raw[1]):
            raise Refusal(ErrorCode.VERSION_MISMATCH)
        return decode(raw, padding=padding)

    def _acceptable(self, code: int) -> tuple[int, ...]:
        """The versions that a request of `code` may have now."""
        if code == Code.GET_VERSION:
            return (SPDM_10,)
        return (self.transcript.version,) if self.transcript.version else self.versions

    def _check_turn(self, request: Message, channel: SecureChannel | None) -> None:
        step = Step.of(request.CODE, request.param1)
        if step is Step.FINISH and channel is None:
            return  # in the clear: answers.py finds the session
        state = channel.state if channel else self.state
        if after(state, step) is None:
            raise Refusal(ErrorCode.UNEXPECTED_REQUEST)
