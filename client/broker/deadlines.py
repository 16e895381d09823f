"""uvicorn's protocol with deadlines: a connection that keeps the broker waiting makes room for others."""

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD: Final = 10.0
"""Seconds from one answer, or from the connection's start, until the next request's headers are here."""
BODY: Final = 30.0
"""Seconds that a body may take."""
STALL: Final = 30.0
"""Seconds in which the peer has to take something of an answer."""


class Deadlines(H11Protocol):
    """Closes a connection that passes HEAD, BODY or STALL. While an answer is being made nothing runs out."""

    _awaited: object = None
    _timer: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request has HEAD seconds."""
        super().connection_made(transport)
        self._await()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        super().connection_lost(exc)
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Headers or a body may be whole now."""
        super().data_received(data)
        self._await()

    def on_response_complete(self) -> None:
        """The next request has HEAD seconds, the rest of this one's body included."""
        super().on_response_complete()
        self._await()

    def pause_writing(self) -> None:
        """The peer reads nothing."""
        super().pause_writing()
        self._stall = self.loop.call_later(STALL, self.transport.abort)

    def resume_writing(self) -> None:
        """The peer reads again."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    def _await(self) -> None:
        """Begin the deadline of what is awaited now, unless it has begun."""
        cycle = self.cycle
        between = cycle is None or cycle.response_complete
        seconds = HEAD if between else BODY if cycle.more_body else None
        if self._awaited == (awaited := (cycle, seconds)):
            return
        self._awaited = awaited
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._end) if seconds is not None else None

    def _end(self) -> None:
        """Close; a peer that does not take the rest of an answer is cut off after STALL."""
        self.transport.close()
        self._timer = self.loop.call_later(STALL, self.transport.abort)
