"""`cloister azure`: an owner's keys in Azure Key Vault, released under a policy (docs/azure.md)."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="azure", help="Keys in Azure Key Vault. Never run against Azure itself.", no_args_is_help=True
)


@app.command()
def policy(
    policy: Annotated[Path, typer.Option("--policy", "-p", help="What a worker must prove (TOML).")],
    authority: Annotated[
        str, typer.Option(help="Azure Attestation's address, https://....attest.azure.net.")
    ],
    tcb: Annotated[
        str | None, typer.Option(help="The exact TCB version to demand: BL,TEE,SNP,UCODE.")
    ] = None,
    workload: Annotated[
        list[Path] | None,
        typer.Option(help="File with a whole workload document to demand; repeat for more."),
    ] = None,
    compliance: Annotated[str | None, typer.Option(help="x-ms-compliance-status to demand.")] = None,
) -> None:
    """Print the release policy that demands what a policy does, or say by key what it cannot demand."""
    from . import azuring

    azuring.print_policy(policy, authority, tcb, workload or [], compliance)


@app.command()
def key(
    vault: Annotated[str, typer.Argument(help="https://VAULT.")],
    name: Annotated[str, typer.Argument(help="The key's name.")],
    release_policy: Annotated[Path, typer.Option(help="What `cloister azure policy` printed.")],
) -> None:
    """Make an exportable key in an HSM under a release policy that can never be changed."""
    from . import azuring

    azuring.make_key(vault, name, release_policy)


@app.command()
def seal(
    key_id: Annotated[str, typer.Argument(help="https://VAULT/keys/NAME/VERSION.")],
    sealed: Annotated[Path, typer.Argument(help="The sealed artifact's directory.")],
    data_key: Annotated[Path, typer.Option("--data-key", help="Its data key.")],
    expires: Annotated[str, typer.Option(help="No use from then on, such as 2027-01-31T12:00:00Z.")],
    out: Annotated[Path, typer.Option(help="Where to write what the worker is given.")],
) -> None:
    """Seal an artifact's key to a key in a vault; what is written may be public."""
    from . import azuring

    azuring.seal(key_id, sealed, data_key, expires, out)
