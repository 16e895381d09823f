"""`cloister broker`: keep owners' keys, release them to workers that prove themselves, read the log."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(name="broker", help="Keep and release owners' keys (docs/broker.md).", no_args_is_help=True)

Data = Annotated[Path, typer.Option("--data", help="The broker's directory.", envvar="CLOISTER_BROKER_DATA")]
Master = Annotated[
    str | None,
    typer.Option(
        "--master-key",
        help="A file; `env` for CLOISTER_BROKER_MASTER_KEY; https://VAULT/keys/NAME for Azure Key Vault. "
        "DATA/master.key if left out.",
    ),
]
Resource = Annotated[str, typer.Argument(help="REPOSITORY/TYPE/TAG, by which workers ask for it.")]
Named = Annotated[
    str | None,
    typer.Option(
        "--resource", help="REPOSITORY/TYPE/TAG; our workers ask by the manifest's own, the default."
    ),
]
Sealed = Annotated[Path, typer.Argument(help="The sealed artifact's directory.")]
DataKey = Annotated[Path, typer.Option("--data-key", help="The artifact's data key, from `cloister seal`.")]
PolicyFile = Annotated[Path, typer.Option("--policy", "-p", help="What a worker must prove (TOML).")]
Expires = Annotated[str, typer.Option(help="No release from then on, such as 2027-01-31T12:00:00Z.")]
Releases = Annotated[str, typer.Option(help="At most so many releases, or `unlimited`.")]
Workloads = Annotated[
    list[str] | None,
    typer.Option(
        "--workload", help="Software name or sha256: digest of a workload; repeat for more; any if left out."
    ),
]
Demo = Annotated[bool, typer.Option("--demo", help="Simulated workers may have it; it protects nothing.")]
DEFAULT = Path("broker")


@app.command()
def init(data: Data = DEFAULT, master: Master = None) -> None:
    """Make a broker's directory, and a master key unless one is named."""
    from . import brokering

    brokering.init(data, master)


@app.command()
def serve(
    data: Data = DEFAULT,
    master: Master = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = 8430,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain in PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key in PEM.")] = None,
    plaintext: Annotated[bool, typer.Option("--plaintext", help="No TLS; loopback only.")] = False,
    admin: Annotated[
        list[Path] | None,
        typer.Option(help="Ed25519 public key in PEM that may administer; repeat for more."),
    ] = None,
    audience: Annotated[
        str | None, typer.Option(help="What administrators' tokens must name: this broker, and no other.")
    ] = None,
    collateral: Annotated[
        list[Path] | None,
        typer.Option(help="Collateral bundle or folder to judge evidence by; repeat for more."),
    ] = None,
) -> None:
    """Serve the KBS protocol 0.4.0 until SIGINT or SIGTERM."""
    from . import brokering

    address = brokering.address(host, port, tls_cert, tls_key, plaintext)
    admins = brokering.admins(admin or [], audience)
    raise typer.Exit(brokering.serve(data, master, address, admins, collateral or []))


@app.command()
def add(
    sealed: Sealed,
    data_key: DataKey,
    policy: PolicyFile,
    expires: Expires,
    releases: Releases,
    workload: Workloads = None,
    demo: Demo = False,
    resource: Named = None,
    data: Data = DEFAULT,
    master: Master = None,
) -> None:
    """Keep an artifact's key, and say who may have it. The same artifact again replaces it."""
    from . import brokering

    order = brokering.order(resource, sealed, data_key, policy, expires, releases, workload or [], demo)
    brokering.add(data, master, order)


@app.command()
def split(
    sealed: Sealed,
    data_key: DataKey,
    policy: PolicyFile,
    expires: Expires,
    threshold: Annotated[int, typer.Option(min=2, max=16, help="How many brokers make the key.")],
    shares: Annotated[int, typer.Option(min=2, max=16, help="How many brokers there are.")],
    out: Annotated[Path, typer.Option(help="Directory for the shares, one file a broker.")],
    demo: Demo = False,
    resource: Named = None,
) -> None:
    """Split an artifact's key into shares for several brokers; `add-share` puts one into each."""
    from . import brokering

    order = brokering.order(resource, sealed, data_key, policy, expires, "unlimited", [], demo)
    brokering.split(order, threshold, shares, out)


@app.command("add-share")
def add_share(
    resource: Resource,
    share: Annotated[Path, typer.Argument(help="A file that `cloister broker split` wrote.")],
    policy: PolicyFile,
    expires: Expires,
    releases: Releases,
    workload: Workloads = None,
    demo: Demo = False,
    data: Data = DEFAULT,
    master: Master = None,
) -> None:
    """Keep one share of a key."""
    from . import brokering

    limits = brokering.limits(resource, expires, releases, workload or [], demo)
    brokering.add_share(data, master, resource, share, policy, limits)


@app.command()
def export(
    sealed: Sealed,
    data_key: DataKey,
    policy: PolicyFile,
    expires: Expires,
    out: Annotated[Path, typer.Option(help="File for the secret; give it to the broker, then delete it.")],
    demo: Demo = False,
    resource: Named = None,
) -> None:
    """Write an artifact's secret for a broker of another make, such as Trustee: it is the resource."""
    from . import brokering

    order = brokering.order(resource, sealed, data_key, policy, expires, "unlimited", [], demo)
    brokering.export(order, out)


@app.command("list")
def list_(data: Data = DEFAULT, master: Master = None) -> None:
    """List artifacts with their limits and counts; keys are never shown."""
    from . import brokering

    brokering.show(data, master)


@app.command()
def revoke(resource: Resource, data: Data = DEFAULT, master: Master = None) -> None:
    """Release an artifact to nobody any more, and forget its key."""
    from . import brokering

    brokering.revoke(data, master, resource)


@app.command()
def audit(
    data: Data = DEFAULT,
    master: Master = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check every entry and print the head.")] = False,
    head: Annotated[
        str | None, typer.Option(help="COUNT:HASH printed earlier, which must still be in the log.")
    ] = None,
    since: Annotated[int, typer.Option(min=0, help="Print entries after this number.")] = 0,
) -> None:
    """Print the audit log as JSON lines, or verify it. Exits 0, or 10 if it was altered or cut."""
    from . import brokering

    brokering.audit(data, master, verify=verify or head is not None, head=head, since=since)


@app.command("admin-token")
def admin_token(
    key: Annotated[Path, typer.Argument(help="Ed25519 private key in PEM.")],
    lifetime: Annotated[int, typer.Option(min=1, max=3600, help="Seconds it holds.")] = 300,
    audience: Annotated[
        str | None, typer.Option(help="The broker that it is for, as its --audience.")
    ] = None,
) -> None:
    """Print a token that administers a broker over HTTP."""
    from . import brokering

    brokering.print_token(key, lifetime, audience)
