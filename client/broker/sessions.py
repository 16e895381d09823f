"""Sessions: a challenge that lives 60 s and is answered once, then one release within 60 s more.

They live in memory: a broker that is killed forgets them, and workers attest again.
"""

import base64
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from attestation import Verdict
from sealing.kbs import Attestation

COOKIE: Final = "kbs-session-id"
LIFETIME: Final = 60.0
MAX_SESSIONS: Final = 4096
_NONCE: Final = 32
_ID: Final = 16


class State(Enum):
    """Where a session stands; there is no way back."""

    CHALLENGED = auto()
    ATTESTED = auto()
    SPENT = auto()


class NoSession(Exception):
    """No session of this id that is in the state needed: unknown, expired, used, or in use."""


class TooManySessions(Exception):
    """As many sessions are open as there may be; the oldest ends within a minute."""


@dataclass(slots=True)
class Session:
    """One exchange. `began` and `until` are in seconds of the broker's steady clock.

    `verdicts`: what was judged when it was attested, by the digest of the policy.
    """

    id: str
    tee: str
    nonce: str
    began: float
    until: float
    state: State = State.CHALLENGED
    in_use: bool = False
    answered_after: timedelta = timedelta()
    attestation: Attestation | None = None
    verdicts: Mapping[bytes, Verdict] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What stands for it in the log, where its id would let others take it over."""
        return hashlib.sha256(self.id.encode()).hexdigest()[:16]


class Sessions:
    """All open sessions, at most `limit`. `ticks` is a clock that nobody can set back."""

    def __init__(self, ticks: Callable[[], float], *, limit: int = MAX_SESSIONS) -> None:
        self._ticks = ticks
        self._limit = limit
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._swept = ticks()

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, tee: str) -> Session:
        """A new session with a fresh nonce. Raises TooManySessions."""
        now = self._ticks()
        nonce = base64.b64encode(os.urandom(_NONCE)).decode("ascii")
        session = Session(os.urandom(_ID).hex(), tee, nonce, now, now + LIFETIME)
        with self._lock:
            self._forget_ended(now)
            if len(self._open) >= self._limit:
                raise TooManySessions
            self._open[session.id] = session
        return session

    def answer(self, session_id: str | None) -> Session:
        """The session whose challenge is now answered, once and for all. Raises NoSession."""
        with self._lock:
            session = self._current(session_id, State.CHALLENGED)
            session.state = State.SPENT
            session.answered_after = timedelta(seconds=self._ticks() - session.began)
            return session

    def attested(self, session: Session, attestation: Attestation, verdicts: Mapping[bytes, Verdict]) -> None:
        """What it was answered with was accepted: one release may follow."""
        with self._lock:
            session.attestation, session.verdicts = attestation, verdicts
            session.state = State.ATTESTED
            session.until = self._ticks() + LIFETIME

    @contextmanager
    def using(self, session_id: str | None) -> Iterator[Session]:
        """An attested session, which nobody else can use meanwhile. Raises NoSession."""
        with self._lock:
            session = self._current(session_id, State.ATTESTED)
            session.in_use = True
        try:
            yield session
        finally:
            session.in_use = False

    def spend(self, session: Session) -> None:
        """It had its release: the next one takes a fresh report."""
        with self._lock:
            session.state = State.SPENT
            self._open.pop(session.id, None)

    def _current(self, session_id: str | None, state: State) -> Session:
        session = self._open.get(session_id or "")
        usable = session is not None and session.state is state and not session.in_use
        if session is None or not usable or self._ticks() >= session.until:
            raise NoSession
        return session

    def _forget_ended(self, now: float) -> None:
        if now < self._swept + 1 and len(self._open) < self._limit:
            return
        self._swept = now
        ended = [each.id for each in self._open.values() if now >= each.until or each.state is State.SPENT]
        for session_id in ended:
            del self._open[session_id]
