"""What a broker keeps: sealed keys, policies, limits, counts. A release is counted before it is given out."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError

from attestation import Policy, PolicyError, Workload
from attestation.encoding import lp, u32be
from attestation.errors import MalformedEvidence
from sealing.errors import MalformedMessage, SealingError
from sealing.kbs import ResourceId

from . import audit
from .errors import LimitsError, StoreError, UnknownArtifact
from .limits import Limits
from .master import MasterKey
from .schema import artifacts, meta, open_engine, policies

MAX_SECRET: Final = 64 * 1024
_CHECK = "master-key-check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One artifact as it is kept, without its key. `limits` is None until its owner has set them."""

    resource: ResourceId
    version: int
    released: int
    revoked: bool
    limits: Limits | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Who asks: the session (a short digest), and what its attestation says under the artifact's policy."""

    session: str
    simulated: bool
    workload: Workload | None
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a key may go out, why not, and the secret if it may."""

    refusals: tuple[str, ...]
    secret: bytes | None = field(default=None, repr=False)


class Store:
    """The database at `path`, under a master key. Safe for several threads and several processes.

    Raises StoreError where the database cannot be used, MasterKeyError for another master key.
    """

    def __init__(self, path: Path, master: MasterKey) -> None:
        self._master = master
        self._engine = open_engine(path)
        self._here = threading.local()
        try:
            check = self.secret(_CHECK, lambda: b"cloister")
        except BaseException:
            self.close()
            raise
        if check != b"cloister":
            raise StoreError(f"{path} is not a broker's database")

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction, which holds the write lock; it commits at the end, or leaves nothing behind.

        Within it, what this thread does with the store belongs to the same transaction.
        """
        outer: Connection | None = getattr(self._here, "connection", None)
        if outer is not None:
            yield outer
            return
        try:
            with self._engine.begin() as connection:
                self._here.connection = connection
                yield connection
        except DatabaseError as error:
            raise StoreError(f"the database refuses: {error.orig}") from None
        finally:
            self._here.connection = None

    def check(self) -> None:
        """StoreError if nothing could be released now: the database is gone, full or held by somebody."""
        with self.transaction() as connection:
            audit.current_head(connection)

    def secret(self, name: str, make: Any) -> bytes:
        """A secret of the broker itself, made at first use and kept sealed."""
        context = b"meta" + lp(name.encode())
        with self.transaction() as connection:
            found = connection.execute(select(meta.c.value).where(meta.c.name == name)).scalar()
            if found is None:
                value: bytes = make()
                connection.execute(meta.insert().values(name=name, value=self._master.seal(value, context)))
                return value
        return self._master.open(found, context)

    def log(self, now: float, event: str, **detail: Any) -> None:
        """Append to the audit log."""
        with self.transaction() as connection:
            audit.append(connection, now, event, **detail)

    def set_policy(self, policy_id: str, toml: str, *, by: str, now: float) -> None:
        """Keep a verifier's policy under an id, in place of another. Raises PolicyError, LimitsError."""
        policy = Policy.from_toml(toml)
        if not 0 < len(policy_id) <= 128:
            raise LimitsError("a policy's id has 1 to 128 characters")
        with self.transaction() as connection:
            for artifact in _all(connection):
                if artifact.limits and artifact.limits.policy == policy_id:
                    artifact.limits.check_policy(policy)
            row = insert(policies).values(id=policy_id, toml=toml)
            connection.execute(row.on_conflict_do_update(index_elements=["id"], set_={"toml": toml}))
            audit.append(connection, now, "set-policy", policy=policy_id, digest=policy.digest.hex(), by=by)

    def policy(self, policy_id: str) -> Policy:
        """The policy of this id. LimitsError if there is none."""
        with self.transaction() as connection:
            return _policy(connection, policy_id)

    def policies(self) -> Mapping[str, Policy]:
        """All policies by id."""
        with self.transaction() as connection:
            return {row.id: _parse(row.toml) for row in connection.execute(select(policies))}

    def place(
        self, resource: ResourceId, secret: bytes, toml: str, limits: Limits, *, by: str, now: float
    ) -> int:
        """Keep policy, secret and limits of one artifact, in one transaction; returns the secret's version.

        Nothing of it holds before all of it does: a new key never goes out under old limits.
        """
        with self.transaction() as connection:
            connection.execute(_row(update(artifacts), resource).values(policy=None, limits=None))
            self.set_policy(limits.policy, toml, by=by, now=now)
            version = self.put(resource, secret, by=by, now=now)
            self.set_limits({resource: limits}, by=by, now=now)
        return version

    def put(self, resource: ResourceId, secret: bytes, *, by: str, now: float) -> int:
        """Keep a secret, in place of another; returns its version. Limits stay, the count starts anew."""
        if not 0 < len(secret) <= MAX_SECRET:
            raise MalformedMessage(f"a resource has 1 to {MAX_SECRET} bytes, not {len(secret)}")
        with self.transaction() as connection:
            before = _find(connection, resource)
            version = before.version + 1 if before else 1
            sealed = self._master.seal(secret, _context(resource, version))
            fresh = {"version": version, "sealed": sealed, "released": 0, "revoked": 0}
            row = insert(artifacts).values(resource=str(resource), **fresh)
            connection.execute(row.on_conflict_do_update(index_elements=["resource"], set_=fresh))
            audit.append(connection, now, "put", resource=str(resource), version=version, by=by)
        return version

    def set_limits(
        self, entries: Mapping[ResourceId, Limits], *, by: str, now: float, only: bool = False
    ) -> None:
        """Set limits; with `only`, artifacts that are not named lose theirs and are released to nobody."""
        with self.transaction() as connection:
            known = {artifact.resource for artifact in _all(connection)}
            if unknown := {str(name) for name in entries.keys() - known}:
                raise UnknownArtifact(f"no artifact {', '.join(sorted(unknown))} is kept here")
            if only:
                connection.execute(update(artifacts).values(policy=None, limits=None))
            for resource, limits in entries.items():
                limits.check_policy(_policy(connection, limits.policy))
                values = {"policy": limits.policy, "limits": limits.to_text()}
                connection.execute(_row(update(artifacts), resource).values(**values))
                audit.append(connection, now, "set-limits", resource=str(resource), by=by, **values)

    def revoke(self, resource: ResourceId, *, by: str, now: float) -> None:
        """Release this artifact to nobody any more, and forget its key. Raises UnknownArtifact."""
        with self.transaction() as connection:
            artifact = _find(connection, resource)
            if artifact is None:
                raise UnknownArtifact(f"no artifact {resource} is kept here")
            connection.execute(_row(update(artifacts), resource).values(revoked=1, sealed=b""))
            audit.append(connection, now, "revoke", resource=str(resource), version=artifact.version, by=by)

    def artifacts(self) -> list[Artifact]:
        """All artifacts, by name."""
        with self.transaction() as connection:
            return _all(connection)

    def find(self, resource: ResourceId) -> Artifact | None:
        """The artifact of this name, or None."""
        with self.transaction() as connection:
            return _find(connection, resource)

    def release(self, resource: ResourceId, version: int, asking: Asking, *, now: float) -> Decision:
        """Decide and count in one transaction; when this returns a secret, its release is on disk.

        `version`: what `asking` was judged for; if the owner has replaced it meanwhile, there is no release.
        """
        with self.transaction() as connection:
            artifact = _find(connection, resource)
            refusals = _refusals(artifact, version, asking, now)
            detail = {"resource": str(resource), "version": version, "session": asking.session}
            if artifact is None or refusals:
                audit.append(connection, now, "denied", refusals=refusals, **detail)
                return Decision(tuple(refusals))
            sealed = connection.execute(_row(select(artifacts.c.sealed), resource)).scalar_one()
            secret = self._master.open(sealed, _context(resource, version))
            count = artifact.released + 1
            connection.execute(_row(update(artifacts), resource).values(released=count))
            audit.append(connection, now, "release", count=count, simulated=asking.simulated, **detail)
        return Decision((), secret)


def _refusals(artifact: Artifact | None, version: int, asking: Asking, now: float) -> list[str]:
    if artifact is None:
        return ["unknown: no artifact of this name"]
    found = [f"attestation: {text}" for text in asking.rejected]
    if artifact.revoked:
        found.append("revoked: by its owner")
    if artifact.version != version:
        found.append("version: replaced while it was asked for")
    if artifact.limits is None:
        return [*found, "limits: its owner has set none, so it goes to nobody"]
    found += artifact.limits.refusals(
        now=now, released=artifact.released, simulated=asking.simulated, workload=asking.workload
    )
    return found


def _context(resource: ResourceId, version: int) -> bytes:
    return b"artifact" + lp(str(resource).encode()) + u32be(version)


def _row(statement: Any, resource: ResourceId) -> Any:
    return statement.where(artifacts.c.resource == str(resource))


def _policy(connection: Connection, policy_id: str) -> Policy:
    toml = connection.execute(select(policies.c.toml).where(policies.c.id == policy_id)).scalar()
    if toml is None:
        raise LimitsError(f"no policy {policy_id!r} is kept here: add it first")
    try:
        return _parse(toml)
    except PolicyError as error:
        raise StoreError(f"policy {policy_id!r} in the store does not parse any more: {error}") from None


@lru_cache(maxsize=64)
def _parse(toml: str) -> Policy:
    return Policy.from_toml(toml)


def _all(connection: Connection) -> list[Artifact]:
    return [_artifact(row) for row in connection.execute(select(artifacts).order_by(artifacts.c.resource))]


def _find(connection: Connection, resource: ResourceId) -> Artifact | None:
    row = connection.execute(_row(select(artifacts), resource)).first()
    return _artifact(row) if row is not None else None


def _artifact(row: Any) -> Artifact:
    try:
        return Artifact(
            resource=ResourceId.parse(row.resource),
            version=row.version,
            released=row.released,
            revoked=bool(row.revoked),
            limits=Limits.from_text(row.policy, row.limits) if row.limits is not None else None,
        )
    except (SealingError, MalformedEvidence, AttributeError, TypeError, KeyError, ValueError):
        raise StoreError("a row of the database is not what this broker wrote") from None
