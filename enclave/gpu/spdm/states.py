"""The states of a connection and of a session: one table, for both sides (DSP0274, message exchange).

A step that is not in the row of the state is out of turn: LocalProtocolError for the requester that would
take it, ERROR(UnexpectedRequest) from the responder that is asked for it.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from .codes import Code, KeyOperation


class State(Enum):
    """The first four are a connection's, the rest a session's."""

    START = "before GET_VERSION"
    VERSION = "the version is agreed"
    CAPABILITIES = "capabilities are exchanged"
    NEGOTIATED = "algorithms are agreed"
    HANDSHAKE = "the session's keys are exchanged"
    ESTABLISHED = "the session is established"
    UPDATING = "new keys are to be verified"
    ENDED = "the session has ended"


class Step(Enum):
    """A request; KEY_UPDATE is two, by its operation."""

    GET_VERSION = Code.GET_VERSION
    GET_CAPABILITIES = Code.GET_CAPABILITIES
    NEGOTIATE_ALGORITHMS = Code.NEGOTIATE_ALGORITHMS
    GET_DIGESTS = Code.GET_DIGESTS
    GET_CERTIFICATE = Code.GET_CERTIFICATE
    CHALLENGE = Code.CHALLENGE
    GET_MEASUREMENTS = Code.GET_MEASUREMENTS
    KEY_EXCHANGE = Code.KEY_EXCHANGE
    FINISH = Code.FINISH
    HEARTBEAT = Code.HEARTBEAT
    UPDATE_KEYS = Code.KEY_UPDATE
    VERIFY_NEW_KEY = -1
    APPLICATION = -2
    END_SESSION = Code.END_SESSION

    @classmethod
    def of(cls, code: Code, param1: int = 0) -> "Step":
        """The step that a request takes. ValueError for what is no request of this table."""
        if code is Code.KEY_UPDATE and param1 == KeyOperation.VERIFY_NEW_KEY:
            return cls.VERIFY_NEW_KEY
        return cls(code)


_ANYWHERE: Final = {Step.GET_VERSION: State.VERSION}

TABLE: Final[Mapping[State, Mapping[Step, State]]] = MappingProxyType(
    {
        State.START: _ANYWHERE,
        State.VERSION: _ANYWHERE | {Step.GET_CAPABILITIES: State.CAPABILITIES},
        State.CAPABILITIES: _ANYWHERE | {Step.NEGOTIATE_ALGORITHMS: State.NEGOTIATED},
        State.NEGOTIATED: _ANYWHERE
        | {
            Step.GET_DIGESTS: State.NEGOTIATED,
            Step.GET_CERTIFICATE: State.NEGOTIATED,
            Step.CHALLENGE: State.NEGOTIATED,
            Step.GET_MEASUREMENTS: State.NEGOTIATED,
            Step.KEY_EXCHANGE: State.NEGOTIATED,  # and a new session in HANDSHAKE
        },
        State.HANDSHAKE: {Step.FINISH: State.ESTABLISHED},
        State.ESTABLISHED: {
            Step.GET_DIGESTS: State.ESTABLISHED,
            Step.GET_CERTIFICATE: State.ESTABLISHED,
            Step.GET_MEASUREMENTS: State.ESTABLISHED,
            Step.HEARTBEAT: State.ESTABLISHED,
            Step.APPLICATION: State.ESTABLISHED,
            Step.UPDATE_KEYS: State.UPDATING,
            Step.END_SESSION: State.ENDED,
        },
        State.UPDATING: {Step.VERIFY_NEW_KEY: State.ESTABLISHED, Step.END_SESSION: State.ENDED},
        State.ENDED: {},
    }
)


def after(state: State, step: Step) -> State | None:
    """The state that `step` leads to; None if it is out of turn."""
    return TABLE[state].get(step)
