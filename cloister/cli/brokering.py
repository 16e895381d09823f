"""What `cloister broker` does: words into orders, a store opened, what happened printed."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from attestation import Collateral
from client.artifacts.keys import read_data_key
from client.artifacts.verify import read_manifest
from client.broker import audit as log
from client.broker import owning
from client.broker.errors import BrokerError, LimitsError, MasterKeyError
from client.broker.limits import UNLIMITED, Limits
from client.broker.master import MasterKey
from client.broker.server import Address, run
from client.broker.store import Store
from client.broker.tokens import Admins
from client.broker.tokens import admin_token as make_token
from sealing.errors import SealingError
from sealing.kbs import ResourceId
from sealing.shares import ReleasedShare

DATABASE, MASTER, WRAPPED = "broker.db", "master.key", "master.wrapped"
BY = "command line"


def init(data: Path, master: str | None) -> None:
    """Make the directory, the master key and the database."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if master is None:
        MasterKey.generate(data / MASTER)
        typer.echo(f"{data / MASTER}: keep it, and keep it apart from backups of the rest")
    elif master.startswith("https://"):
        _wrap(data, master)
    with _store(data, master) as store:
        typer.echo(f"{data / DATABASE}: {len(store.artifacts())} artifacts")


def serve(
    data: Path, master: str | None, address: Address, admins: Admins, collateral: Sequence[Path]
) -> int:
    """Serve until told to stop."""
    address.check()
    with _store(data, master) as store:
        return run(store, admins, address, _collateral(collateral))


def admins(keys: Sequence[Path], audience: str | None) -> Admins:
    """Who may administer over HTTP, by tokens for this audience."""
    return Admins.from_pems([_read(path) for path in keys], audience)


def address(host: str, port: int, certificate: Path | None, key: Path | None, plaintext: bool) -> Address:
    """Where to listen."""
    return Address(host=host, port=port, certificate=certificate, key=key, plaintext=plaintext)


def order(
    resource: str | None,
    sealed: Path,
    data_key: Path,
    policy: Path,
    expires: str,
    releases: str,
    workloads: Sequence[str],
    demo: bool,
) -> owning.Order:
    """What the owner orders, under the manifest's name if `resource` is None.

    LimitsError or OwnerError names the word that does not fit.
    """
    signed = read_manifest(sealed)
    resource = resource or signed.manifest.resource
    return owning.Order(
        resource=_resource(resource),
        signed=signed,
        data_key=read_data_key(data_key),
        policy=_read(policy).decode("utf-8", "replace"),
        limits=limits(resource, expires, releases, workloads, demo),
    )


def limits(resource: str, expires: str, releases: str, workloads: Sequence[str], demo: bool) -> Limits:
    """The limits in words; the policy is kept under the resource's name."""
    try:
        until: datetime | str = datetime.fromisoformat(expires)
        count: int | str = releases if releases == UNLIMITED else int(releases)
    except ValueError:
        raise LimitsError(
            "--expires is a time such as 2027-01-31T12:00:00Z, --releases a number or unlimited"
        ) from None
    table = {
        "policy": resource,
        "expires": until,
        "releases": count,
        "workloads": list(workloads),
        "demo": demo,
    }
    return Limits.from_table(table)


def add(data: Path, master: str | None, wanted: owning.Order) -> None:
    """Keep it."""
    with _store(data, master) as store:
        version = owning.place(store, wanted, by=BY, now=time.time())
    typer.echo(f"{wanted.resource}: version {version}, manifest {wanted.signed.hash.hex()}")


def split(wanted: owning.Order, threshold: int, count: int, out: Path) -> None:
    """Write the shares."""
    try:
        paths = owning.write_shares(wanted, threshold=threshold, count=count, folder=out)
    except (OSError, SealingError) as error:
        raise LimitsError(str(error)) from None
    for path in paths:
        typer.echo(f"{path}: for one broker, `add-share {wanted.resource} {path.name}`, then delete it")


def export(wanted: owning.Order, out: Path) -> None:
    """Write the secret."""
    try:
        owning.write_secret(wanted, out)
    except OSError as error:
        raise LimitsError(f"{out}: {error.strerror}") from None
    typer.echo(f"{out}: the resource {wanted.resource}; not encrypted, so delete it once the broker has it")


def add_share(
    data: Path, master: str | None, resource: str, share: Path, policy: Path, wanted: Limits
) -> None:
    """Keep one share under the same limits as a whole key."""
    raw, name, now = _read(share), _resource(resource), time.time()
    try:
        ReleasedShare.from_bytes(raw)
    except SealingError as error:
        raise LimitsError(f"{share}: {error}") from None
    with _store(data, master) as store:
        version = store.place(name, raw, _read(policy).decode("utf-8", "replace"), wanted, by=BY, now=now)
    typer.echo(f"{name}: a share, version {version}")


def show(data: Path, master: str | None) -> None:
    """One line an artifact."""
    with _store(data, master) as store:
        found = store.artifacts()
    for item in found:
        held = item.limits
        if item.revoked or held is None:
            said = "revoked" if item.revoked else "no limits: released to nobody"
        else:
            until = datetime.fromtimestamp(held.expires, UTC).isoformat()
            demo = ", demo" if held.demo else ""
            said = f"{item.released} of {held.releases or UNLIMITED} releases, until {until}{demo}"
        typer.echo(f"{item.resource}  version {item.version}  {said}")


def revoke(data: Path, master: str | None, resource: str) -> None:
    """Forget a key."""
    with _store(data, master) as store:
        store.revoke(_resource(resource), by=BY, now=time.time())
    typer.echo(f"{resource}: revoked")


def audit(data: Path, master: str | None, *, verify: bool, head: str | None, since: int) -> None:
    """Print or verify the log."""
    remembered = log.Head.parse(head) if head is not None else None
    with _store(data, master) as store, store.transaction() as connection:
        if verify:
            typer.echo(f"{log.verify(connection, remembered)}")
            return
        for entry in log.entries(connection, since):
            sys.stdout.write(json.dumps(entry, sort_keys=True) + "\n")


def print_token(key: Path, lifetime: int, audience: str | None) -> None:
    """Print an administrator's token."""
    try:
        private = load_pem_private_key(_read(key), None)
    except (ValueError, TypeError) as error:
        raise BrokerError(f"{key}: {error}") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise BrokerError(f"{key} is not an Ed25519 key")
    typer.echo(make_token(private, now=time.time(), lifetime=lifetime, audience=audience))


@contextmanager
def _store(data: Path, master: str | None) -> Iterator[Store]:
    store = Store(data / DATABASE, _master(data, master))
    try:
        yield store
    finally:
        store.close()


def _master(data: Path, master: str | None) -> MasterKey:
    if master == "env":
        return MasterKey.from_environment()
    if master is not None and master.startswith("https://"):
        from client.azure.vault import unwrapper

        path = data / WRAPPED
        if not path.is_file():
            raise MasterKeyError(
                f"{path} is not there: `cloister broker init --master-key {master}` makes it"
            )
        return MasterKey.from_vault(_read(path), unwrapper(master))
    return MasterKey.from_file(Path(master) if master is not None else data / MASTER)


def _wrap(data: Path, url: str) -> None:
    """A new master key, kept only as the vault wrapped it."""
    from client.azure.vault import new_wrapped_key

    path = data / WRAPPED
    with path.open("xb") as file:
        file.write(new_wrapped_key(url))
    typer.echo(f"{path}: the master key, wrapped by {url}")


def _collateral(paths: Sequence[Path]) -> Collateral:
    from .files import read_collateral

    return read_collateral(list(paths))


def _resource(text: str) -> ResourceId:
    try:
        return ResourceId.parse(text)
    except SealingError as error:
        raise LimitsError(f"{text!r}: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BrokerError(f"{path}: {error.strerror}") from None
