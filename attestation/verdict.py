"""What a verification says: every check by name, and whether that is enough."""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import chain, repeat
from types import MappingProxyType
from typing import Any, NamedTuple

from .checks import CheckId

Claims = Mapping[str, Mapping[str, Any]]


class Outcome(StrEnum):
    """How one check ended. Only PASS helps; a check without a result is NOT_REACHED."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    UNEVALUABLE = "unevaluable"
    NOT_REACHED = "not_reached"


_PASS, _FAIL = Outcome.PASS, Outcome.FAIL  # a member looked up on its enum costs five times a plain name


class ExitCode:
    """Exit codes of the command line, one per kind of answer (design, section 5)."""

    ACCEPTED = 0
    INTERNAL = 1
    USAGE = 2
    SIMULATED = 3
    REJECTED = 10
    UNEVALUABLE = 20
    MALFORMED = 30


class Result(NamedTuple):
    """One check on one subject ("bundle", "cpu0", "gpu0"...): what was found, what was expected.

    A named tuple, since a verification makes dozens and a frozen dataclass costs twice as much.
    """

    check: CheckId
    subject: str
    outcome: Outcome
    found: str = ""
    expected: str = ""

    def to_dict(self) -> dict[str, str]:
        """The result with its clause and, where it did not pass, its remedy."""
        row = {
            "check": str(self.check),
            "subject": self.subject,
            "outcome": str(self.outcome),
            "found": self.found,
            "expected": self.expected,
            "clause": self.check.clause,
        }
        if self.outcome is not Outcome.PASS:
            row["remedy"] = self.remedy
        return row

    @property
    def remedy(self) -> str:
        """What to do: the check's own remedy is for a failure; first comes what is missing."""
        match self.outcome:
            case Outcome.PASS:
                return "nothing"
            case Outcome.FAIL:
                return self.check.remedy
            case Outcome.UNEVALUABLE:
                return f"supply what is missing; where that is not it: {self.check.remedy}"
            case Outcome.NOT_REACHED:
                return "see to the checks before it: this one needs what they establish"


class Sheet:
    """Collects the results of one subject; each check is recorded once.

    `required` is fixed before anything is looked at: what is required and never recorded
    becomes NOT_REACHED.
    """

    def __init__(self, subject: str, required: Iterable[CheckId]) -> None:
        self.subject = subject
        self.required = frozenset(required)
        self.claims: dict[str, Any] = {}
        self._results: dict[CheckId, Result] = {}

    def record(self, check: CheckId, passed: bool, found: str = "", expected: str = "") -> bool:
        """Record PASS or FAIL and return `passed`."""
        self._add(check, _PASS if passed else _FAIL, found, expected)
        return passed

    def equal(self, check: CheckId, found: bytes, expected: bytes) -> bool:
        """Record whether two byte strings are equal, compared in constant time."""
        same = hmac.compare_digest(found, expected)
        return self.record(check, same, found.hex(), expected.hex())

    def unevaluable(self, check: CheckId, why: str, expected: str = "") -> None:
        """Record that there is nothing to judge `check` by; `why` says what is missing."""
        self._add(check, Outcome.UNEVALUABLE, why, expected)

    def passed(self, check: CheckId) -> bool:
        """Whether `check` was recorded as PASS."""
        result = self._results.get(check)
        return result is not None and result.outcome is _PASS

    def results(self) -> tuple[Result, ...]:
        """Everything recorded, then what was required and not reached."""
        missing = sorted(self.required - self._results.keys())
        absent = (Result(c, self.subject, Outcome.NOT_REACHED) for c in missing)
        return (*self._results.values(), *absent)

    def _add(self, check: CheckId, outcome: Outcome, found: str, expected: str) -> None:
        if check in self._results:
            raise RuntimeError(f"{check} recorded twice for {self.subject}")
        self._results[check] = Result(check, self.subject, outcome, found, expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of one verification: frozen, complete, rendered by others.

    `claims` are facts read from evidence, by subject; they hold only if the verdict is accepted.
    `expires_at` is when a relying party must attest again.
    """

    results: tuple[Result, ...]
    required: frozenset[tuple[str, CheckId]]
    at: datetime
    simulated: bool = False
    custom_roots: bool = False
    expires_at: datetime | None = None
    claims: Claims = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, sheets: Iterable[Sheet], **fields: Any) -> "Verdict":
        """The verdict over `sheets`; subjects must be distinct."""
        sheets = tuple(sheets)
        subjects = [sheet.subject for sheet in sheets]
        if len(set(subjects)) != len(subjects):
            raise RuntimeError(f"two sheets for one subject: {subjects}")
        return cls(
            results=tuple(chain.from_iterable(sheet.results() for sheet in sheets)),
            required=frozenset(chain.from_iterable(zip(repeat(s.subject), s.required) for s in sheets)),
            claims=MappingProxyType({s.subject: MappingProxyType(s.claims) for s in sheets}),
            **fields,
        )

    @property
    def accepted(self) -> bool:
        """True if something was required, all of it passed, and no check at all failed."""
        passed: set[tuple[str, CheckId]] = set()
        for check, subject, outcome, _, _ in self.results:
            if outcome is _PASS:
                passed.add((subject, check))
            elif outcome is _FAIL:
                return False
        return bool(self.required) and self.required <= passed

    @property
    def unevaluable(self) -> bool:
        """True if it was not accepted only because something to judge by is missing."""
        if self.accepted or any(r.outcome is Outcome.FAIL for r in self.results):
            return False
        return any(r.outcome is Outcome.UNEVALUABLE and self.requires(r) for r in self.results)

    @property
    def exit_code(self) -> int:
        """The command line's exit code for this verdict."""
        if self.accepted:
            return ExitCode.SIMULATED if self.simulated else ExitCode.ACCEPTED
        return ExitCode.UNEVALUABLE if self.unevaluable else ExitCode.REJECTED

    @property
    def word(self) -> str:
        """ACCEPTED, SIMULATED, REJECTED or UNEVALUABLE."""
        words = {
            ExitCode.ACCEPTED: "ACCEPTED",
            ExitCode.SIMULATED: "SIMULATED",
            ExitCode.UNEVALUABLE: "UNEVALUABLE",
            ExitCode.REJECTED: "REJECTED",
        }
        return words[self.exit_code]

    def requires(self, result: Result) -> bool:
        """Whether the policy requires this result's check to pass."""
        return (result.subject, result.check) in self.required

    def blocking(self) -> tuple[Result, ...]:
        """The results that keep the verdict from being accepted."""
        return tuple(
            r
            for r in self.results
            if r.outcome is Outcome.FAIL or (r.outcome is not Outcome.PASS and self.requires(r))
        )

    def summary(self) -> str:
        """One line: the word and, if not accepted, the checks that decided it."""
        if self.accepted:
            return self.word
        # A failure explains more than the checks that it kept from being reached.
        reasons = [r for r in self.blocking() if r.outcome is not Outcome.NOT_REACHED] or self.blocking()
        listed = "; ".join(f"{r.subject} {r.check}: {r.outcome} ({r.found})" for r in reasons[:4])
        return f"{self.word}: {listed or 'nothing was required'}"

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON values; the same facts as the human table."""
        return {
            "verdict": self.word,
            "accepted": self.accepted,
            "simulated": self.simulated,
            "custom_roots": self.custom_roots,
            "at": self.at.isoformat(),
            "expires_at": self.expires_at.isoformat() if self.expires_at else None,
            "results": [r.to_dict() | {"required": self.requires(r)} for r in self.results],
            "claims": {subject: dict(claims) for subject, claims in self.claims.items()},
        }
