"""What the broker answers: status, body, headers; errors in the form and under the names of the server."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

from sealing.kbs import ErrorInformation

from .sessions import COOKIE, Session

TYPES: Final = "https://github.com/confidential-containers/kbs/errors"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer over HTTP. Its body may hold a sealed key, never a bare one."""

    status: int
    body: bytes = b""
    media_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


class Problem(Exception):
    """An answer that is an error. `detail` goes to whoever asked: it says no more than they need."""

    def __init__(self, status: int, kind: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = headers

    def reply(self) -> Reply:
        """The answer."""
        body = ErrorInformation(type=f"{TYPES}/{self.kind}", detail=self.detail).to_bytes()
        return Reply(self.status, body, headers=self.headers)


def unauthorized(kind: str, detail: str) -> Problem:
    """401: no session, or evidence that was not accepted. Trustee's clients attest anew on it."""
    return Problem(401, kind, detail)


def denied() -> Problem:
    """403, the same for every reason; the owner finds the reason in the audit log."""
    return Problem(403, "PolicyDeny", "Access denied by policy")


def unavailable(detail: str) -> Problem:
    """503: nothing was released or counted."""
    return Problem(503, "Unavailable", detail, **{"retry-after": "5"})


def cookie(session: Session, now: float, lifetime: float) -> dict[str, str]:
    """The header that sets the session's cookie, as the server writes it."""
    ends = format_datetime(datetime.fromtimestamp(now + lifetime, UTC), usegmt=True)
    return {"set-cookie": f"{COOKIE}={session.id}; Expires={ends}"}
