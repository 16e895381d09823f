"""Does the suite notice when a check stops checking? `python -m tests.check_audit`.

Runs the tests of the verifier once and notes which tests saw which check pass and not pass. Then, for
each check, twice: with the check always passing, the tests that saw it reject must complain; with it
always failing, those that saw it pass must. A change that nobody notices is printed, and the command
exits with 1. POSIX only: each try is a fork of one process that has everything imported.
"""

import contextlib
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from attestation.verdict import Outcome, Sheet
from attestation.vocabulary import enumerations

FOLDER = "tests/attestation"
MARKS = "not slow and not vllm"
BUDGET = 60  # seconds that the tests of one check took when recorded, at most


@dataclass(eq=False)
class Recorder:
    """A pytest plugin that notes how each check ended in each test, and how long tests took."""

    passing: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    rejecting: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    seconds: dict[str, float] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    files: set[Path] = field(default_factory=set)
    test: str = ""

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Remember which files were collected, those included whose tests are all deselected."""
        self.files.add(item.path)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Remember which test is running."""
        self.test = nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the time of a test's body, and whether it failed."""
        if report.when == "call":
            self.seconds[report.nodeid] = report.duration
        if report.failed:
            self.failed.add(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, Any, Any]:
        """Note every result that a Sheet takes while tests run."""
        record, unevaluable = Sheet.record, Sheet.unevaluable

        def noted(sheet: Sheet, check: Any, passed: bool, *rest: Any, **more: Any) -> bool:
            self._note(str(check), passed)
            return record(sheet, check, passed, *rest, **more)

        def noted_unevaluable(sheet: Sheet, check: Any, *rest: Any, **more: Any) -> None:
            self._note(str(check), False)
            unevaluable(sheet, check, *rest, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Sheet, "record", noted)
            patch.setattr(Sheet, "unevaluable", noted_unevaluable)
            return (yield)

    def _note(self, check: str, passed: bool) -> None:
        if not _made_up():
            (self.passing if passed else self.rejecting)[check].add(self.test)

    def telling(self, tests: set[str]) -> list[str]:
        """Of `tests` those likeliest to notice first: where little else rejects, then the quick ones."""
        rejects = Counter(test for seen in self.rejecting.values() for test in seen)
        usable = sorted(tests - self.failed, key=lambda test: (rejects[test], self.seconds.get(test, BUDGET)))
        spent = accumulate(self.seconds.get(test, BUDGET) for test in usable)
        return [test for test, total in zip(usable, spent, strict=True) if total <= BUDGET]


def _made_up() -> bool:
    """Whether a test wrote this result itself, to have a verdict to speak of: that judges nothing."""
    frame = sys._getframe()
    while frame.f_code.co_filename == __file__ and frame.f_back:
        frame = frame.f_back
    return str(frame.f_globals["__name__"]).startswith("tests.")


def force(check: str, outcome: Outcome) -> None:
    """In this process, `check` ends with `outcome` whatever was found."""
    record, unevaluable = Sheet.record, Sheet.unevaluable

    def forced(self: Sheet, name: Any, passed: bool, *rest: Any, **more: Any) -> bool:
        changed = name == check and not _made_up()
        return record(self, name, outcome is Outcome.PASS if changed else passed, *rest, **more)

    def forced_unevaluable(self: Sheet, name: Any, *rest: Any, **more: Any) -> None:
        if name == check and not _made_up():
            record(self, name, outcome is Outcome.PASS, *rest, **more)
        else:
            unevaluable(self, name, *rest, **more)

    Sheet.record, Sheet.unevaluable = forced, forced_unevaluable  # type: ignore[method-assign]


def fails(tests: Iterable[str], *forced: tuple[str, Outcome]) -> bool:
    """Whether any of `tests` fails, in a process of its own where checks end as `forced` says."""
    quiet = ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "--tb=no", "--show-capture=no", "-m", MARKS]
    child = os.fork()
    if not child:
        for check, outcome in forced:
            force(check, outcome)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            os._exit(pytest.main([*quiet, *tests]))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        raise RuntimeError(f"pytest ended with {code} for {forced}")
    return code == pytest.ExitCode.TESTS_FAILED


def unnoticed(recorder: Recorder) -> Iterator[str]:
    """A sentence for each change of a check that no test minds."""
    for check in (str(check) for enumeration in enumerations() for check in enumeration):
        for outcome, seen in ((Outcome.PASS, recorder.rejecting), (Outcome.FAIL, recorder.passing)):
            if not (tests := recorder.telling(seen[check])):
                yield f"{check}: no test sees it end otherwise than with {outcome}"
            elif not fails(tests, (check, outcome)):
                yield f"{check}: no test minds that it always ends with {outcome}"


def main() -> int:
    """Run the audit; 1 if a check could go missing unnoticed."""
    recorder, began, found = Recorder(), time.monotonic(), 0
    pytest.main(["-q", "-p", "no:cacheprovider", "-m", MARKS, FOLDER], [recorder])
    if recorder.failed or not recorder.seconds or fails([FOLDER]):
        sys.exit("the tests have to pass as they are, in a forked process too")
    for sentence in unnoticed(recorder):
        print(sentence, flush=True)
        found += 1
    print(f"{len(recorder.seconds)} tests, {found} unnoticed changes, {time.monotonic() - began:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
