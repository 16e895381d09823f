"""`cloister upload` and `cloister adapter`: an owner and an attested worker, or a store."""

import asyncio
import os
from pathlib import Path

import typer

from attestation import ExitCode, Policy
from client.artifacts import keys, sending
from client.artifacts.errors import OwnerError
from client.sdk import AsyncClient
from sealing.artifact.order import Do

from .files import read_policy
from .sealing import PASSPHRASE, show_progress

BLOB = "azblob:"


def upload(sealed: Path, to: str, policy: Path | None, token: str | None) -> int:
    """Send an artifact; 0, or 3 if the worker is simulated."""
    if to.startswith(BLOB):
        from client.artifacts.blob import upload as upload_blob

        upload_blob(sealed, to.removeprefix(BLOB), show_progress("sent"))
        typer.echo(f"{sealed} is at {to.partition('?')[0]}")
        return ExitCode.ACCEPTED
    if policy is None:
        raise OwnerError("a worker must prove itself first: give --policy FILE")
    return asyncio.run(_upload(sealed, to, read_policy(policy), token))


async def _upload(sealed: Path, to: str, policy: Policy, token: str | None) -> int:
    async with AsyncClient(to, policy, token=token) as client:
        state = await sending.upload(client, sealed, show_progress("sent"))
        typer.echo(f"uploaded as {state['upload']}, {state['have']} bytes, ciphertext as it is here")
        return _code(client)


def order(
    do: str, name: str, sealed: Path, owner: Path, to: str, policy: Path, place: str, token: str | None
) -> int:
    """Load or unload an adapter; 0, or 3 if the worker is simulated."""
    phrase = os.environ.get(PASSPHRASE)
    key = keys.read_owner_key(owner, passphrase=phrase.encode() if phrase else None)

    async def ask() -> int:
        async with AsyncClient(to, read_policy(policy), token=token) as client:
            done = await sending.order(client, Do(do), name, sealed, key, place)
            typer.echo(f"{done['do']}ed {done['name']}, root {done['root']}")
            return _code(client)

    return asyncio.run(ask())


def _code(client: AsyncClient) -> int:
    verdict = client.verdict
    return ExitCode.SIMULATED if verdict is not None and verdict.simulated else ExitCode.ACCEPTED
