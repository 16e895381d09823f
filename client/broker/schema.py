"""The broker's tables, and the engine over SQLite: write-ahead log, full sync, one writer at a time."""

import sqlite3
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    text,
)
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import QueuePool

from .errors import StoreError

VERSION: Final = 1
BUSY: Final = 10.0

metadata = MetaData()
meta = Table(
    "meta",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
policies = Table(
    "policies",
    metadata,
    Column("id", String, primary_key=True),
    Column("toml", String, nullable=False),
)
artifacts = Table(
    "artifacts",
    metadata,
    Column("resource", String, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("released", Integer, nullable=False, default=0),
    Column("revoked", Integer, nullable=False, default=0),
    Column("policy", String, ForeignKey("policies.id")),
    Column("limits", String),
)
audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("entry", String, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

_TRIGGERS = tuple(
    f"CREATE TRIGGER IF NOT EXISTS audit_no_{verb} BEFORE {verb} ON audit "
    "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
    for verb in ("UPDATE", "DELETE")
)


def open_engine(path: Path) -> Engine:
    """The engine over the database at `path`, made if it is not there. Raises StoreError."""
    try:
        path.touch(mode=0o600)  # before SQLite makes its log beside it, which takes the same mode
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    engine = create_engine(
        f"sqlite:///{path}", poolclass=QueuePool, pool_size=8, connect_args={"timeout": BUSY}
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        with engine.begin() as connection:
            metadata.create_all(connection)
            for trigger in _TRIGGERS:
                connection.execute(text(trigger))
            found = connection.execute(text("PRAGMA user_version")).scalar_one()
            if found not in (0, VERSION):
                raise StoreError(f"{path} is of version {found}, not {VERSION}")
            connection.execute(text(f"PRAGMA user_version = {VERSION}"))
    except DatabaseError as error:
        engine.dispose()
        raise StoreError(f"{path}: {error.orig}") from None
    return engine


def _configure(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin` says so
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Any) -> None:
    """Every transaction takes the write lock at once: what it read cannot change before it commits."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
