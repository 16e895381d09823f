"""What `cloister azure` does."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from attestation import PolicyError
from attestation.snp import Tcb
from client.artifacts.keys import read_data_key
from client.artifacts.verify import read_manifest
from client.azure.keys import VaultRefused, create_key, seal_secret
from client.azure.release_policy import Target, release_policy
from sealing.artifact import ReleasedSecret, check_commitment
from sealing.errors import SealingError

from .files import read_policy

OPTIONS: dict[str, Any] = {}
"""What goes to azure's clients besides a credential."""


def print_policy(
    file: Path, authority: str, tcb: str | None, workloads: Sequence[Path], compliance: str | None
) -> None:
    """Print the release policy."""
    target = Target(
        authority=authority,
        tcb=_tcb(tcb) if tcb is not None else None,
        workloads=tuple(_read(path) for path in workloads),
        compliance=compliance,
    )
    typer.echo(json.dumps(release_policy(read_policy(file), target), indent=1))


def make_key(vault: str, name: str, file: Path) -> None:
    """Make a key and print its id."""
    try:
        policy = json.loads(_read(file))
    except ValueError as error:
        raise VaultRefused(f"{file} is not JSON: {error}") from None
    typer.echo(create_key(vault, name, policy, **OPTIONS))


def seal(key_id: str, sealed: Path, data_key: Path, expires: str, out: Path) -> None:
    """Write a secret, sealed."""
    signed, key = read_manifest(sealed), read_data_key(data_key)
    try:
        check_commitment(key, signed.manifest.id, signed.manifest.commitment)
        until = int(datetime.fromisoformat(expires).timestamp())
    except (SealingError, ValueError) as error:
        raise VaultRefused(str(error)) from None
    secret = ReleasedSecret(key=key, manifest=signed.hash, owner=signed.manifest.owner.hash, not_after=until)
    with out.open("xb") as file:
        file.write(seal_secret(key_id, secret, **OPTIONS))
    typer.echo(f"{out}: opens with {key_id}")


def _tcb(text: str) -> Tcb:
    try:
        bl, tee, snp, ucode = (int(part) for part in text.split(","))
    except ValueError:
        raise PolicyError(f"--tcb {text!r} is not BL,TEE,SNP,UCODE") from None
    return Tcb(bl=bl, tee=tee, snp=snp, ucode=ucode)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}") from None
