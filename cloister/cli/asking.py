"""`cloister ask` and `cloister chat`: the answer on stdout, everything about it on stderr."""

import sys
from pathlib import Path

from rich.console import Console

from attestation import ExitCode, Policy, Verdict
from client.blocking import Client

NOTES = Console(stderr=True, highlight=False)


def ask(
    question: str,
    policy: Path,
    url: str,
    model: str | None,
    token: str | None,
    temperature: float,
    max_tokens: int | None,
    receipt: Path | None = None,
) -> int:
    """One question, its receipt kept in `receipt`; returns 0, or 3 if the worker is simulated."""
    options = {} if max_tokens is None else {"max_tokens": max_tokens}
    with Client(url, Policy.from_file(policy), token=token) as client:
        verdict = client.attest()
        answer = client.stream(
            question, model=model, receipt=receipt is not None, temperature=temperature, **options
        )
        for piece in answer:
            _write(piece)
        _write("\n")
        if receipt is not None and answer.receipt is not None:
            files = answer.receipt.save(receipt)
            NOTES.print(f"receipt: {', '.join(map(str, files))}", style="dim", markup=False)
    return _close(verdict)


def chat(policy: Path, url: str, model: str | None, token: str | None) -> int:
    """A conversation on the terminal; returns 0, or 3 if the worker is simulated."""
    turns: list[dict[str, str]] = []
    with Client(url, Policy.from_file(policy), token=token) as client:
        verdict = client.attest()
        NOTES.print(f"{verdict.word}: {url}. An empty line ends.", style="dim")
        while question := _question():
            turns.append({"role": "user", "content": question})
            pieces: list[str] = []
            for piece in client.stream(turns, model=model, temperature=0.0):
                _write(piece)
                pieces.append(piece)
            _write("\n")
            turns.append({"role": "assistant", "content": "".join(pieces)})
    return _close(verdict)


def _question() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


def _write(text: str) -> None:
    # A model can be talked into writing escape sequences; a terminal must not obey them.
    sys.stdout.write("".join(c for c in text if c.isprintable() or c in "\n\t"))
    sys.stdout.flush()


def _close(verdict: Verdict) -> int:
    if verdict.simulated:
        NOTES.print(
            "SIMULATED: this worker runs on no confidential hardware and protects nothing", style="yellow"
        )
        return ExitCode.SIMULATED
    return ExitCode.ACCEPTED
