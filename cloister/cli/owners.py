"""An owner's commands: signing keys, sealing, sending. What they need is imported when they run."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
keys = typer.Typer(name="owner-key", help="Keys that owners sign with.", no_args_is_help=True)
app.add_typer(keys)


@keys.command("new")
def new_key(
    file: Annotated[Path, typer.Argument(help="Where to write it; its public half goes to FILE.pub.")],
    p384: Annotated[bool, typer.Option("--p384", help="ECDSA with P-384 instead of Ed25519.")] = False,
) -> None:
    """Make a signing key. With CLOISTER_OWNER_PASSPHRASE set it is written encrypted."""
    from . import sealing

    sealing.new_key(file, p384=p384)


@keys.command("show")
def show_key(file: Annotated[Path, typer.Argument(help="A key in PEM, public or private.")]) -> None:
    """Print the owner key hash by which workers and brokers name an owner."""
    from . import sealing

    sealing.show_key(file)


@app.command()
def seal(
    directory: Annotated[Path, typer.Argument(help="A model, adapter or documents; with --verify: SEALED.")],
    owner: Annotated[
        Path | None, typer.Option(help="PEM file of the owner's signing key; `cloister owner-key new`.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Directory to write the sealed artifact to.")] = None,
    data_key: Annotated[
        str, typer.Option(help="File with the data key; `new` makes one in SEALED.key.")
    ] = "new",
    kind: Annotated[
        str | None, typer.Option(help="model, adapter or documents; found out if left out.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="For people; the directory's name if left out.")] = None,
    base: Annotated[
        str | None, typer.Option(help="For an adapter: its model's directory, sealed directory or root.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Release policy whose digest the manifest shall carry.")
    ] = None,
    tenant: Annotated[
        list[str] | None, typer.Option(help="Who may use it; repeat for more; everybody if left out.")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Simulated workers may get the key.")] = False,
    supersedes: Annotated[
        Path | None, typer.Option(help="Sealed artifact of which this is the next version.")
    ] = None,
    chunk_size: Annotated[
        int | None, typer.Option(min=4096, max=1 << 21, help="Bytes a chunk; 1 MiB if left out.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check a sealed artifact; needs no key.")] = False,
) -> None:
    """Encrypt and sign a model, an adapter or documents. Interrupted, the same command goes on."""
    from . import sealing

    if verify:
        raise typer.Exit(sealing.check(directory, owner))
    if owner is None or out is None:
        raise typer.BadParameter("--owner and --out are needed, or --verify")
    words = sealing.SealWords(
        directory=directory,
        owner=owner,
        out=out,
        data_key=data_key,
        kind=kind,
        name=name,
        base=base,
        policy=policy,
        tenants=tenant or [],
        demo=demo,
        supersedes=supersedes,
        chunk_size=chunk_size,
    )
    raise typer.Exit(sealing.run(words))


adapter = typer.Typer(
    name="adapter", help="An owner's adapters in a worker that serves.", no_args_is_help=True
)
app.add_typer(adapter)

Policy = Annotated[
    Path, typer.Option("--policy", "-p", help="Policy file: what the worker must prove first.")
]
Token = Annotated[
    str | None, typer.Option("--token", envvar="CLOISTER_TOKEN", help="A tenant's bearer token.")
]
Worker = Annotated[str, typer.Option("--to", help="The worker's address.")]
Sealed = Annotated[Path, typer.Argument(help="A sealed artifact's directory.")]
Owner = Annotated[Path, typer.Option(help="PEM file of its owner's signing key.")]


@app.command()
def upload(
    sealed: Sealed,
    to: Annotated[str, typer.Option("--to", help="A worker's address, or azblob: and a blob address.")],
    policy: Annotated[
        Path | None, typer.Option("--policy", "-p", help="Policy file: what the worker must prove first.")
    ] = None,
    token: Token = None,
) -> None:
    """Send a sealed artifact to an attested worker, or to Azure Blob Storage. Goes on where it stopped."""
    from . import sending

    raise typer.Exit(sending.upload(sealed, to, policy, token))


@adapter.command("load")
def load_adapter(
    name: Annotated[str, typer.Argument(help="What requests shall call it.")],
    sealed: Sealed,
    owner: Owner,
    to: Worker,
    policy: Policy,
    place: Annotated[
        str,
        typer.Option(help="Where it lies, http(s): or azblob:; what was uploaded if left out."),
    ] = "",
    token: Token = None,
) -> None:
    """Have an attested worker get the adapter's key from its broker and load it."""
    from . import sending

    raise typer.Exit(sending.order("load", name, sealed, owner, to, policy, place, token))


@adapter.command("unload")
def unload_adapter(
    name: Annotated[str, typer.Argument(help="What requests call it.")],
    sealed: Sealed,
    owner: Owner,
    to: Worker,
    policy: Policy,
    token: Token = None,
) -> None:
    """Have a worker let go of an adapter; answers that have begun keep it to their end."""
    from . import sending

    raise typer.Exit(sending.order("unload", name, sealed, owner, to, policy, "", token))
