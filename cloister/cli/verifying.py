"""`cloister verify`: reads a source, calls the library once, renders its verdict. Judges nothing."""

import asyncio
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from attestation import Bundle, Collateral, MalformedEvidence, Policy, PolicyError, Roots, Verdict
from attestation import verify as judge

from . import render


@dataclass(frozen=True, slots=True)
class FileOptions:
    """What a file cannot say of itself: the verifier's nonce and the times around it."""

    nonce: str | None
    nonce_made_at: str | None
    received_at: str | None


def run(source: str, policy: Path, *, as_json: bool, options: FileOptions, roots: Path | None) -> int:
    """Verify `source`, print the verdict, return its exit code."""
    rules = Policy.from_file(policy)
    if roots is not None:
        rules = rules.with_roots(Roots.from_directory(roots))
    remote = source.startswith(("http://", "https://"))
    verdict = _remote(source, rules) if remote else _file(Path(source), rules, options)
    if as_json:
        sys.stdout.write(json.dumps(verdict.to_dict(), indent=2) + "\n")
    else:
        render.verdict(Console(), verdict)
    return verdict.exit_code


def _remote(url: str, policy: Policy) -> Verdict:
    from client.sdk import AsyncClient

    async def examine() -> Verdict:
        async with AsyncClient(url, policy) as client:
            return (await client.examine())[1]

    return asyncio.run(examine())


def _file(path: Path, policy: Policy, options: FileOptions) -> Verdict:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise MalformedEvidence(f"{path}: {error.strerror}") from None
    received = _time(options.received_at) or datetime.now(UTC)
    made = _time(options.nonce_made_at)
    age: timedelta | None = received - made if made else None
    return judge(
        Bundle.from_json(raw), Collateral(), policy, nonce=_nonce(options.nonce), now=received, nonce_age=age
    )


def _nonce(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise PolicyError(f"--nonce {text!r} is not hexadecimal") from None


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise PolicyError(f"{text!r} is not a time such as 2026-01-01T12:00:00Z") from None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
