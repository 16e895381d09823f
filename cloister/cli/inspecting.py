"""`cloister inspect`: what evidence says, field by field. Whether it is true, `cloister verify` says."""

import json
import sys

from rich.console import Console
from rich.text import Text

from attestation import ExitCode, MalformedEvidence
from attestation.explain import Explained, explain

from .files import read_sources

LONGEST = 192
NOT_JUDGED = "Nothing was verified: this is what the bytes say, not whether it is true."


def run(sources: list[str], *, as_json: bool) -> int:
    """Print every field of every file; raises MalformedEvidence for what is of no known kind."""
    explained = {name: _explained(name, raw) for name, raw in read_sources(sources).items()}
    if as_json:
        sys.stdout.write(
            json.dumps({name: _table(item) for name, item in explained.items()}, indent=2) + "\n"
        )
        return ExitCode.ACCEPTED
    console = Console()
    for name, item in explained.items():
        _print(console, name, item)
    console.print(NOT_JUDGED, style="yellow")
    return ExitCode.ACCEPTED


def _explained(name: str, raw: bytes) -> Explained:
    try:
        return explain(raw)
    except MalformedEvidence as error:
        raise MalformedEvidence(f"{name}: {error}") from None


def _print(console: Console, name: str, item: Explained) -> None:
    console.print(Text(f"{_plain(name)}: {item.piece}, {item.size} bytes", style="bold"), soft_wrap=True)
    width = min(max((len(field.name) for field in item.fields), default=0), 48)
    for field in item.fields:
        line = Text.assemble("  ", _plain(field.name).ljust(width), "  ", _plain(field.value))
        if field.meaning:
            line.append(f"  ({field.meaning})", style="dim")
        console.print(line, soft_wrap=True)
    console.print()


def _table(item: Explained) -> dict[str, object]:
    return {"kind": str(item.piece), "bytes": item.size, "fields": {f.name: f.value for f in item.fields}}


def _plain(text: str) -> str:
    """`text` without control codes, cut where it is very long (--json prints it whole)."""
    safe = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return safe if len(safe) <= LONGEST else f"{safe[:LONGEST]}... ({len(safe)} characters)"
