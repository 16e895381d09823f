"""`cloister verify`: reads a source, calls the library once, renders its verdict. Judges nothing."""

import asyncio
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer
from rich.console import Console

from attestation import Collateral, Policy, Roots, Verdict, recognise
from attestation import verify as judge

from . import render
from .ears import Signing
from .files import read_collateral, read_policy, read_sources, unhex


@dataclass(frozen=True, slots=True)
class FileOptions:
    """What files cannot say of themselves: what they must carry, the times around them, collateral."""

    nonce: str | None = None
    nonce_made_at: str | None = None
    received_at: str | None = None
    report_data: str | None = None
    user_data: str | None = None
    public_key: str | None = None
    collateral: tuple[Path, ...] = ()


def run(
    sources: list[str],
    policy: Path,
    *,
    as_json: bool,
    options: FileOptions,
    roots: Path | None,
    signing: Signing | None = None,
) -> int:
    """Verify what `sources` hold together, print the verdict, sign it if asked to, return its exit code."""
    rules = read_policy(policy)
    if roots is not None:
        rules = rules.with_roots(Roots.from_directory(roots))
    collateral = read_collateral(list(options.collateral))
    if any(source.startswith(("http://", "https://")) for source in sources):
        nonce, verdict = _remote(_only(sources, options), rules, collateral)
    else:
        nonce, verdict = _files(sources, rules, collateral, options)
    aside = signing is not None and signing.to_stdout
    if as_json:
        (sys.stderr if aside else sys.stdout).write(json.dumps(verdict.to_dict(), indent=2) + "\n")
    else:
        render.verdict(Console(stderr=aside), verdict)
    if signing is not None:
        signing.sign(verdict, nonce, rules.digest)
    return verdict.exit_code


def _only(sources: list[str], options: FileOptions) -> str:
    """The one URL; typer.BadParameter if there is more, or what only files need."""
    given = (options.nonce, options.nonce_made_at, options.received_at, options.report_data)
    if len(sources) > 1 or any((*given, options.user_data, options.public_key)):
        raise typer.BadParameter(
            "a worker's URL goes alone, and needs no --nonce or time: both are this command's own"
        )
    return sources[0]


def _remote(url: str, policy: Policy, collateral: Collateral) -> tuple[bytes | None, Verdict]:
    """The nonce that the client chose, and the verdict."""
    from client.sdk import AsyncClient

    async def examine() -> tuple[bytes | None, Verdict]:
        async with AsyncClient(url, policy, collateral=collateral) as client:
            bundle, verdict = await client.examine()
            return bundle.nonce, verdict

    return asyncio.run(examine())


def _files(
    sources: list[str], policy: Policy, collateral: Collateral, options: FileOptions
) -> tuple[bytes | None, Verdict]:
    found = recognise(read_sources(sources))
    for name in found.unused:
        sys.stderr.write(f"not used: {name} ({found.pieces[name]})\n")
    received = _time(options.received_at) or datetime.now(UTC)
    made = _time(options.nonce_made_at)
    nonce = unhex("nonce", options.nonce)
    verdict = judge(
        found.evidence,
        collateral.merged(found.collateral.stapled()),
        policy,
        nonce=nonce,
        now=received,
        nonce_age=received - made if made else None,
        report_data=unhex("report-data", options.report_data),
        user_data=unhex("user-data", options.user_data),
        public_key=unhex("public-key", options.public_key),
    )
    return nonce, verdict


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time such as 2026-01-01T12:00:00Z") from None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
