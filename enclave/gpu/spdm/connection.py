"""A requester's connection: one request, one response, in turn, plain or in a session."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from .bindings import Binding, Kind, Packet
from .chain import CertificateChain
from .channel import SecureChannel
from .codes import Code, ErrorCode
from .entropy import Entropy
from .errors import LocalProtocolError, MalformedMessage, PeerError, RemoteProtocolError, SessionLost
from .flow import Flow, Send
from .messages import NOTHING, Error, Expected, Message, RespondIfReady, decode
from .states import State, Step, after
from .transcript import Transcript

ATTEMPTS: Final = 8
"""How often a request is repeated to a device that is busy or not ready."""
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 2.0

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Exchange(Generic[M]):
    """A request as sent, and its response parsed and as received (`raw`, without a transport's padding)."""

    request: bytes
    response: M
    raw: bytes


class Connection:
    """What is agreed with a device and what is kept of it; `ask` does one exchange."""

    def __init__(self, binding: Binding, entropy: Entropy) -> None:
        self.binding = binding
        self.entropy = entropy
        self.state = State.START
        self.transcript = Transcript()
        self.chains: dict[int, CertificateChain] = {}
        self.sessions: dict[bytes, SecureChannel] = {}
        self._busy = False

    @property
    def version(self) -> int:
        """The agreed version as it stands in headers; 0 before that."""
        return self.transcript.version

    def ask(
        self,
        request: Message,
        answer: type[M],
        expected: Expected = NOTHING,
        *,
        session: SecureChannel | None = None,
        clear: bool = False,
    ) -> Flow[Exchange[M]]:
        """One exchange. `clear`: FINISH of a handshake in the clear.

        Raises LocalProtocolError before anything is sent, PeerError (the session lives on), and other
        RemoteProtocolErrors, after which the session, or without one the connection, is at its end.
        """
        self._check_turn(request, session)
        self.transcript.begin(request.CODE, session.measurements if session else None)
        self._busy = True
        try:
            done = yield from self._attempts(request, answer, expected, None if clear else session)
        except PeerError:
            raise
        except BaseException:  # also a flow that is broken off: its answer may still come
            self.drop(session)
            raise
        finally:
            self._busy = False
        return done

    def exchange_records(self, session: SecureChannel, data: bytes) -> Flow[bytes]:
        """Send application data in a session, and return what comes back."""
        session.step(Step.APPLICATION)
        try:
            answer = yield Send(self._seal(session, data))
            packet = self.binding.unwrap(answer)
            if packet.kind is not Kind.RECORD:
                raise SessionLost("the device answers outside of the session")
            return session.open_response(packet.body)
        except BaseException:
            self.drop(session)
            raise

    def drop(self, session: SecureChannel | None) -> None:
        """End the session, or without one the whole connection."""
        if session is None:
            self.forget()
        else:
            session.erase()
            self.sessions.pop(session.session_id, None)

    def forget(self) -> None:
        """Erase every session and begin anew: only GET_VERSION goes from here."""
        for session in self.sessions.values():
            session.erase()
        self.sessions.clear()
        self.chains.clear()
        self.state = State.START
        self.transcript = Transcript()

    def _check_turn(self, request: Message, session: SecureChannel | None) -> None:
        if self._busy:
            raise LocalProtocolError("another request is under way")
        step = Step.of(request.CODE, request.param1)
        if session is not None:
            session.step(step)
        elif after(self.state, step) is None:
            raise LocalProtocolError(f"{step.name} is out of turn: {self.state.value}")

    def _attempts(
        self, request: Message, answer: type[M], expected: Expected, session: SecureChannel | None
    ) -> Flow[Exchange[M]]:
        first = message = request.to_bytes()
        wait = 0.0
        for pause in _pauses():
            raw = yield Send(self._wrap(message, session), wait)
            response, exact = self._unwrap(raw, expected, session)
            if isinstance(response, answer):
                if response.version != request.version:
                    raise RemoteProtocolError(f"{answer.CODE.name} is of another version")
                return Exchange(first, response, exact)
            if not isinstance(response, Error):
                raise RemoteProtocolError(f"{response.CODE.name} does not answer {request.CODE.name}")
            if response.param1 == ErrorCode.RESPONSE_NOT_READY:
                wait, message = _not_ready(response, request)
            elif response.param1 == ErrorCode.BUSY:
                wait = pause
            else:
                raise _peer_error(response, request)
        raise PeerError("the device stays busy: try again later", ErrorCode.BUSY)

    def _wrap(self, message: bytes, session: SecureChannel | None) -> bytes:
        if session is None:
            return self.binding.wrap(Packet(Kind.MESSAGE, message))
        return self._seal(session, self.binding.enclose(message))

    def _seal(self, session: SecureChannel, data: bytes) -> bytes:
        padding = self.entropy.padding() if self.binding.random_padding else b""
        return self.binding.wrap(Packet(Kind.RECORD, session.request.seal(data, padding)))

    def _unwrap(self, raw: bytes, expected: Expected, session: SecureChannel | None) -> tuple[Message, bytes]:
        packet = self.binding.unwrap(raw)
        if session is None:
            if packet.kind is not Kind.MESSAGE:
                raise RemoteProtocolError("a record outside of any session")
            return decode(packet.body, expected, padding=self.binding.padding)
        if packet.kind is not Kind.RECORD:
            raise SessionLost(f"the device answers outside of the session: {_reason(packet.body)}")
        return decode(self.binding.disclose(session.open_response(packet.body)), expected)


def _pauses() -> Iterator[float]:
    return (min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE) for attempt in range(ATTEMPTS))


def _not_ready(error: Error, request: Message) -> tuple[float, bytes]:
    """How long to wait, and the RESPOND_IF_READY to send then (DSP0274, ResponseNotReady)."""
    if len(error.extended) < 4:
        raise MalformedMessage("ERROR(ResponseNotReady) without its data")
    exponent, code, token, _ = error.extended[:4]
    if code != request.CODE:
        raise RemoteProtocolError("ERROR(ResponseNotReady) is for another request")
    wait = min(2.0 ** min(exponent, 32) / 1e6, _LONGEST_PAUSE)
    return wait, RespondIfReady(version=request.version, param1=code, param2=token).to_bytes()


def _peer_error(error: Error, request: Message) -> PeerError:
    name = ErrorCode(error.param1).name if error.param1 in set(ErrorCode) else f"{error.param1:#04x}"
    message = f"the device answered {request.CODE.name} with ERROR({name}, data {error.param2:#04x})"
    return PeerError(message, error.param1, error.param2)


def _reason(body: bytes) -> str:
    if len(body) >= 4 and body[1] == Code.ERROR:
        return f"ERROR({body[2]:#04x})"
    return "not with an error"
