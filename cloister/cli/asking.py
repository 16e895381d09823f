"""`cloister ask` and `cloister chat`: the answer on stdout, everything about it on stderr."""

import sys
from pathlib import Path

from rich.console import Console

from attestation import ExitCode
from client.blocking import Client

from .files import read_policy

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
    with Client(url, read_policy(policy), token=token) as client:
        verdict = client.attest()
        answer = client.stream(
            question, model=model, receipt=receipt is not None, temperature=temperature, **options
        )
        for piece in answer:
            write(piece)
        write("\n")
        if receipt is not None and answer.receipt is not None:
            files = answer.receipt.save(receipt)
            NOTES.print(f"receipt: {', '.join(map(str, files))}", style="dim", markup=False)
    return close(simulated=verdict.simulated)


def chat(policy: Path, url: str, model: str | None, token: str | None) -> int:
    """A conversation on the terminal; returns 0, or 3 if the worker is simulated."""
    turns: list[dict[str, str]] = []
    with Client(url, read_policy(policy), token=token) as client:
        verdict = client.attest()
        NOTES.print(f"{verdict.word}: {url}. An empty line ends.", style="dim")
        while question := _question():
            turns.append({"role": "user", "content": question})
            pieces: list[str] = []
            for piece in client.stream(turns, model=model, temperature=0.0):
                write(piece)
                pieces.append(piece)
            write("\n")
            turns.append({"role": "assistant", "content": "".join(pieces)})
    return close(simulated=verdict.simulated)


def _question() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


def write(text: str) -> None:
    """Print what came from a worker."""
    # A model can be talked into writing escape sequences; a terminal must not obey them.
    sys.stdout.write("".join(c for c in text if c.isprintable() or c in "\n\t"))
    sys.stdout.flush()


def close(*, simulated: bool) -> int:
    """The exit code of an exchange that went well, after the warning that it may need."""
    if simulated:
        NOTES.print(
            "SIMULATED: this worker runs on no confidential hardware and protects nothing", style="yellow"
        )
        return ExitCode.SIMULATED
    return ExitCode.ACCEPTED
