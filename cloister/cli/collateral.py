"""`cloister collateral`: fetch what verification needs, keep it, carry it to where there is no network."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from attestation.collateral_store import Entry, Store
    from attestation.fetch import Evidence, Fetched, Services
    from attestation.snp import Product

app = typer.Typer(
    name="collateral",
    help="Certificates, revocation lists, TCB info and manifests: fetch, keep, list, carry.",
    no_args_is_help=True,
)

Directory = Annotated[
    Path | None,
    typer.Option(
        "--store", help="Directory that keeps collateral; ~/.cache/cloister/collateral if left out."
    ),
]
Clock = Annotated[
    str | None,
    typer.Option("--at", help="Judge validity at this time, such as 2026-01-01T12:00:00Z; now if left out."),
]
Line = Annotated[
    str | None,
    typer.Option(help="Milan, Genoa or Turin: for SNP reports of version 2, which do not name their line."),
]
MAX_FILE = 16 * 1024 * 1024


@app.command()
def fetch(
    evidence: Annotated[
        list[Path],
        typer.Argument(help="Evidence bundles, SNP reports, TDX or SGX quotes, GPU reports, chains."),
    ],
    store: Directory = None,
    service: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=URL of a mirror of amd-kds, intel-pcs, intel-certificates, nvidia-rim or nvidia-ocsp."
        ),
    ] = None,
    pccs: Annotated[str | None, typer.Option(help="URL of a PCCS to ask instead of Intel.")] = None,
    product: Line = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask again even for what is kept and fresh.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one exchange.")] = 30.0,
    at: Clock = None,
) -> None:
    """Fetch from AMD, Intel and NVIDIA what verifying the evidence needs, and keep it.

    Exits 0 if everything is at hand, 20 if something could not be had; the rest is kept. A bearer
    token in NVIDIA_API_KEY is sent to NVIDIA's own RIM service.
    """
    import asyncio

    from attestation.fetch import Patience
    from attestation.fetch import fetch as ask

    found = _evidence(evidence)
    kept = _store(store)
    asked = ask(
        found,
        now=_time(at),
        services=_services(service or [], pccs),
        store=kept,
        refresh=refresh,
        product=_product(product),
        patience=Patience(timeout=timeout),
    )
    with _files():
        made = asyncio.run(asked)
    _report(made)
    _tell(kept)
    raise typer.Exit(20 if made.failures else 0)


@app.command("list")
def show(
    store: Directory = None,
    at: Clock = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List what is kept: kind, whom it is about, from when to when it holds."""
    kept, now = _store(store), _time(at)
    with _files():
        rows = [_row(entry, now) for entry in kept.entries()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        for row in rows:
            span = f"{row['not_before'] or '-'} to {row['not_after'] or '-'}"
            words = row["state"], row["kind"], str(row["sha256"])[:12], span, row["subject"]
            typer.echo(_printable("  ".join(map(str, words))))
        typer.echo(f"{len(rows)} items in {kept.directory}", err=True)
    _tell(kept)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="The bundle to write.")],
    evidence: Annotated[
        list[Path] | None, typer.Argument(help="Only what these need; all that is fresh if left out.")
    ] = None,
    store: Directory = None,
    product: Line = None,
    at: Clock = None,
) -> None:
    """Write what is kept and fresh to one file, for `cloister verify --collateral FILE`.

    With evidence named, exits 20 if something that it needs is not kept or not fresh.
    """
    from attestation.collateral_store import write_atomically, write_bundle
    from attestation.fetch import recall

    kept, now = _store(store), _time(at)
    missing: tuple[str, ...] = ()
    with _files():
        if evidence:
            collateral, missing = recall(_evidence(evidence), kept, now=now, product=_product(product))
        else:
            collateral = kept.collateral(now)
        raw = write_bundle(collateral)
        write_atomically(file, raw)
    _tell(kept)
    for name in missing:
        typer.echo(f"cloister: not kept, or not fresh: {_printable(name)}", err=True)
    if missing:
        typer.echo("next: run `cloister collateral fetch` with the same evidence", err=True)
    typer.echo(f"{sum(map(len, collateral.items.values()))} items, {len(raw)} bytes in {file}", err=True)
    raise typer.Exit(20 if missing else 0)


@app.command("import")
def take(
    file: Annotated[Path, typer.Argument(help="A bundle that `export` wrote.")],
    store: Directory = None,
    allow_keys: Annotated[
        bool,
        typer.Option("--allow-keys", help="Keep the key sets of token services too: nobody signed these."),
    ] = False,
) -> None:
    """Keep the items of a bundle. A malformed one is refused whole."""
    from attestation.collateral_store import Item, describe, read_bundle

    offered = read_bundle(_read(file))
    collateral = offered if allow_keys else offered.stapled()
    for kind in offered.items.keys() - collateral.items.keys():
        typer.echo(f"cloister: {kind} left out: nobody signed it; --allow-keys keeps it", err=True)
    items = [Item(kind, raw) for kind, found in collateral.items.items() for raw in found]
    for item in items:
        describe(item.kind, item.raw)
    kept = _store(store)
    with _files():
        for item in items:
            kept.put(item)
    typer.echo(f"{len(items)} items kept in {kept.directory}", err=True)


def _report(made: "Fetched") -> None:
    for answer in made.answers:
        source = "kept" if answer.cached else "fetched"
        kinds = ", ".join(str(item.kind) for item in answer.items)
        typer.echo(f"{source:7}  {_printable(answer.request.asked)}: {kinds}")
    for failure in made.failures:
        typer.echo(f"cloister: {_printable(str(failure))}", err=True)


def _row(entry: "Entry", now: datetime) -> dict[str, str | None]:
    facts = entry.facts
    return {
        "kind": str(entry.item.kind),
        "sha256": entry.item.digest,
        "subject": facts.subject,
        "issuer": facts.issuer,
        "not_before": facts.not_before.isoformat() if facts.not_before else None,
        "not_after": facts.not_after.isoformat() if facts.not_after else None,
        "state": str(facts.freshness(now)),
    }


def _store(directory: Path | None) -> "Store":
    from attestation.collateral_store import Store

    return Store(directory)


def _evidence(files: list[Path]) -> "Evidence":
    from attestation.fetch import recognise

    return recognise([_read(file) for file in files], [str(file) for file in files])


def _services(mirrors: list[str], pccs: str | None) -> "Services":
    from attestation.fetch import Service, Services

    elsewhere: dict[Service, str] = {}
    for word in mirrors:
        name, _, url = word.partition("=")
        if name not in set(Service):
            raise typer.BadParameter(f"{word!r} is not NAME=URL with one of {', '.join(Service)}")
        elsewhere[Service(name)] = url
    try:
        return Services.at(elsewhere, pccs=pccs, rim_key=os.environ.get("NVIDIA_API_KEY") or None)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _product(name: str | None) -> "Product | None":
    from attestation.snp import Product

    if name is not None and name not in set(Product):
        raise typer.BadParameter(f"--product {name!r} is not one of {', '.join(Product)}")
    return Product(name) if name else None


def _time(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"--at {text!r} is not a time such as 2026-01-01T12:00:00Z") from None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _read(path: Path) -> bytes:
    with _files(), path.open("rb") as file:
        raw = file.read(MAX_FILE + 1)
    if len(raw) > MAX_FILE:
        raise typer.BadParameter(f"{path}: more than {MAX_FILE} bytes")
    return raw


@contextmanager
def _files() -> Iterator[None]:
    """Files that cannot be read or written are the caller's to mend."""
    try:
        yield
    except OSError as error:
        raise typer.BadParameter(f"{error.filename or 'file'}: {error.strerror}") from None


def _tell(store: "Store") -> None:
    for problem in dict.fromkeys(store.problems):
        sys.stderr.write(f"cloister: {_printable(problem)}\n")


def _printable(text: str) -> str:
    # Items and services name themselves; a terminal must not obey what they say.
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
