"""How the verifier judges recorded evidence: `python -m tests.evidence_score DIR`.

One line a case: its id, the expected verdict, ours, and the checks that decided it; then totals.
"fail" is expected of whatever is rejected, not evaluable or malformed, and the line says which. Exits
1 if a verdict differs, or with --claims if an established claim does.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attestation import MalformedEvidence, Outcome, Verdict
from tests.evidence_cases import Case, cases, judge

PROSE = {"note"}
PARTS = {"td": "cpu0", "snp": "cpu0"}


@dataclass(frozen=True)
class Score:
    """What came out for one case. `word` is accepted, rejected, unevaluable, malformed or error."""

    case: Case
    word: str
    why: str
    verdict: Verdict | None = None

    @property
    def expected(self) -> str:
        return str(self.case.fields["expected"]["verdict"])

    @property
    def found(self) -> str:
        return "pass" if self.word == "accepted" else "fail"

    @property
    def agrees(self) -> bool:
        return self.word != "error" and self.found == self.expected

    def differing(self) -> list[str]:
        """The expected claims that the verdict does not state equally."""
        expected = self.case.fields["expected"]
        claims = dict(expected.get("claims") or {}) | {k: expected[k] for k in ("tcb",) if k in expected}
        if self.verdict is None:
            return sorted(claims)
        return [name for name, value in claims.items() if not _states(self.verdict.claims, name, value)]


def score(case: Case) -> Score:
    """Judge one case; nothing escapes but what a programming error raises, and that is named too."""
    try:
        verdict = judge(case)
    except MalformedEvidence as error:
        return Score(case, "malformed", str(error))
    except Exception as error:  # a case that cannot be judged must not hide the others
        return Score(case, "error", f"{type(error).__name__}: {error}")
    if verdict.accepted:
        asked = _asked(case.other_inputs, verdict.claims)
        if wrong := [name for name, holds in asked.items() if holds is False]:
            return Score(case, "rejected", f"not as asked for: {', '.join(wrong)}", verdict)
        unread = [name for name, holds in asked.items() if holds is None]
        note = f"; not compared: {', '.join(unread)}" if unread else ""
        return Score(case, "accepted", f"{len(verdict.required)} required checks passed{note}", verdict)
    reasons = [r for r in verdict.blocking() if r.outcome is not Outcome.NOT_REACHED] or verdict.blocking()
    why = ", ".join(f"{r.subject} {r.check}" for r in reasons)
    return Score(case, "unevaluable" if verdict.unevaluable else "rejected", why, verdict)


def _asked(inputs: Mapping[str, Any], claims: Mapping[str, Mapping[str, Any]]) -> dict[str, bool | None]:
    """Whether a claim is what an input of that name asks for; None where no claim has the name."""
    found: dict[str, bool | None] = {}
    for name, value in inputs.items():
        stem = name.removeprefix("expected_").removesuffix("_hex")
        stated = [_plain(one[stem]) for one in claims.values() if stem in one]
        found[name] = _plain(value) in stated if stated else None
    return found


def _plain(value: Any) -> Any:
    return value.lower().removeprefix("0x") if isinstance(value, str) else value


def _states(claims: Mapping[str, Mapping[str, Any]], name: str, value: Any) -> bool:
    """Whether some subject states `name` as `value`; parts of a composite are compared member by member."""
    if name in PROSE:
        return True
    if name in PARTS or (name.startswith("gpu") and isinstance(value, dict)):
        return _within(value, claims.get(PARTS.get(name, name), {}))
    if name == "gpu" and isinstance(value, list):
        return all(_within(item, claims.get(f"gpu{i}", {})) for i, item in enumerate(value))
    if name == "tcb":
        return any(_within(value, one["tcb"]) for one in claims.values() if "tcb" in one)
    return any(name in one and one[name] == value for one in claims.values())


def _within(part: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    return all(name in whole and whole[name] == value for name, value in part.items())


def report(scores: Iterable[Score], *, claims: bool) -> int:
    """Print every score; 0 if all agree."""
    scores = list(scores)
    width = max((len(one.case.name) for one in scores), default=0)
    for one in scores:
        mark = "ok  " if one.agrees else "DIFF"
        print(f"{mark} {one.case.name:{width}}  {one.expected:4}  {one.found:4} {one.word:11}  {one.why}")
    judged = [one for one in scores if one.case.fields["expected"].get("claims") and one.verdict]
    odd = {one.case.name: one.differing() for one in judged if one.differing()}
    for name, names in odd.items():
        print(f"claims differ: {name}: {', '.join(names)}")
    agreed = sum(one.agrees for one in scores)
    print(f"{agreed} of {len(scores)} verdicts as expected; claims equal in {len(judged) - len(odd)}", end="")
    print(f" of {len(judged)} cases that state them")
    return 0 if scores and agreed == len(scores) and not (claims and odd) else 1


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path, help="folder with cases, at any depth")
    parser.add_argument("--claims", action="store_true", help="exit 1 also if an established claim differs")
    options = parser.parse_args(arguments)
    return report(map(score, cases(options.directory)), claims=options.claims)


if __name__ == "__main__":
    sys.exit(main())
