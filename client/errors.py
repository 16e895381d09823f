"""What can go wrong for a relying party, besides a verdict that rejects.

    ClientError
    ├── Unreachable        the worker could not be reached, or broke off before it answered
    ├── InsecureAddress    a simulated worker anywhere but on loopback
    ├── NotAnAddress       no http(s)://HOST[:PORT]
    ├── NoUsableKey        the worker offers no key that the policy allows
    ├── WorkerBusy         the worker asks to come back later; nothing was started
    ├── WorkerRefused      the gateway refused the request; `status` and `problem` say why
    ├── BrokenAnswer       an answer that stops early or was altered; never to be taken for a whole one
    ├── ShapeMismatch      a typed answer that was cut off, or that the caller's own checks do not take
    ├── TermsError         terms of a consent that cannot be used; the message names the key
    ├── ReceiptRefused     the answer is whole, but the receipt that was asked for is missing or does not hold
    └── ApiFailure         the API inside answered with an error; `status` and `error` as OpenAI spells them

`attestation.Rejected` and `attestation.MalformedEvidence` come through as they are.
"""

from typing import Any


class ClientError(Exception):
    """Base of every error that this package raises on purpose."""


class Unreachable(ClientError):
    """No connection, or none for long enough. Whether a request was started is not known."""


class InsecureAddress(ClientError):
    """The policy trusts only the simulator, and the address is not loopback."""


class NotAnAddress(ClientError):
    """A worker's address is http://HOST[:PORT] or https://HOST[:PORT], and this is neither."""


class NoUsableKey(ClientError):
    """The worker gave no key that the policy lets a request be sealed to."""


class WorkerBusy(ClientError):
    """503: too much is going on. `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the worker is busy; retry in {retry_after} s")
        self.retry_after = retry_after


class WorkerRefused(ClientError):
    """The gateway refused. `problem` is its problem detail (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        detail = f": {problem['detail']}" if problem.get("detail") else ""
        super().__init__(f"{status} {problem.get('title', 'refused')}{detail}")
        self.status = status
        self.problem = problem


class BrokenAnswer(ClientError):
    """The sealed answer ended before its final chunk, or does not open."""


class ShapeMismatch(ClientError):
    """An answer that is not of the type asked for; the message names places, never contents."""


class TermsError(ClientError):
    """Terms of a consent that do not validate, or a key file that cannot be read."""


class ReceiptRefused(ClientError):
    """No receipt, or one that is not of this answer, this worker or this workload."""


class ApiFailure(ClientError):
    """An error of the API inside the seal."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(f"{status}: {error.get('message', 'no message')}")
        self.status = status
        self.error = error
