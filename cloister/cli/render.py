"""How a verdict reads for a person: one line a check, and what to do where one did not pass."""

import re
from datetime import datetime

from rich.console import Console
from rich.text import Text

from attestation import Outcome, Result, Verdict

from .failures import printable

MARKS = {
    Outcome.PASS: ("pass", "green"),
    Outcome.FAIL: ("FAIL", "bold red"),
    Outcome.UNEVALUABLE: ("????", "bold yellow"),
    Outcome.NOT_REACHED: ("----", "yellow"),
}
WORDS = {
    "ACCEPTED": ("ACCEPTED", "bold green"),
    "SIMULATED": ("ACCEPTED, but SIMULATED: no confidential hardware, nothing is protected", "bold yellow"),
    "REJECTED": ("REJECTED", "bold red"),
    "UNEVALUABLE": ("NOT EVALUABLE: something to judge by is missing", "bold yellow"),
}
_LONG_HEX = re.compile(r"\b[0-9a-f]{24,}\b")


def verdict(console: Console, value: Verdict) -> None:
    """Print every check of a verdict, in the order they were made, and the verdict on the last line."""
    width = max((len(r.check) + len(r.subject) for r in value.results), default=0) + 1
    for result in value.results:
        _line(console, value, result, width)
    blocking = value.blocking()
    if blocking:
        console.print(f"\n{len(blocking)} of {len(value.results)} checks keep this from being accepted.")
    if value.custom_roots:
        console.print("Judged against roots that the caller supplied, not those pinned in the package.")
    if value.claims.get("bundle", {}).get("engine", {}).get("insecure_gpu"):
        console.print("The worker computes on a GPU that no evidence vouches for (insecure_gpu).")
    word, style = WORDS[value.word]
    if value.accepted and value.expires_at:
        console.print(f"Holds until {_clock(value.expires_at)}.")
    console.print(Text(word, style=style), soft_wrap=True)


def _line(console: Console, value: Verdict, result: Result, width: int) -> None:
    mark, style = MARKS[result.outcome]
    name = f"{result.subject} {result.check}"
    line = Text.assemble((mark, style), "  ", name.ljust(width), "  ", shorten(result.found))
    if not value.requires(result) and result.outcome is not Outcome.PASS:
        line.append("  (not required by the policy)")
    console.print(line, soft_wrap=True)
    if result.outcome is not Outcome.PASS:
        indent = " " * (width + 8)
        if result.expected:
            console.print(
                f"{indent}expected: {shorten(result.expected)}", soft_wrap=True, highlight=False, markup=False
            )
        console.print(f"{indent}what to do: {result.remedy}", soft_wrap=True, highlight=False, markup=False)


def shorten(text: str) -> str:
    """`text` for a terminal: long hexadecimal cut to 16 digits (--json prints it whole), no control codes."""
    return _LONG_HEX.sub(lambda match: match[0][:16] + "...", printable(text))


def _clock(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S %Z")
