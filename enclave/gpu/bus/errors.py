"""What can go wrong between the two ends.

LinkError
|- LinkBroken      the session is dead, on both sides; `reason` says why. Attest the device anew
|- LinkTimeout     nothing moved before the deadline; the session lives unless the error says otherwise
"""

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Why a session ended."""

    TAG = "a record did not authenticate"
    INDEX = "an index in shared memory moved backwards or out of its ring"
    HEADER = "a record's header is out of bounds"
    PROTOCOL = "records came in an order that no honest end sends"
    PEER = "the other end went away or was restarted"
    DEADLINE = "a deadline passed in the middle of a message"
    CLOSED = "the session was closed"
    MEMORY = "the shared memory is not what the host was asked for"


class LinkError(Exception):
    """Something between the two ends failed."""


class LinkBroken(LinkError):
    """The session is dead and its keys are erased. The one error of a dead session."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"the link is broken: {reason}{': ' if detail else ''}{detail}")

    def again(self) -> Self:
        """The same error for the next caller, without this one's traceback."""
        return type(self)(self.reason, self.detail)


class LinkTimeout(LinkError):
    """Nothing moved before the deadline."""


class NoBus(Exception):
    """No bus is there to be watched; the message says what to do."""
