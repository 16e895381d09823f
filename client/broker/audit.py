"""The audit log: entries of canonical JSON, each hashed together with the one before.

    hash_0 = SHA-256("cloister/audit/v1")
    hash_n = SHA-256("cloister/audit/v1" || lp(hash_(n-1)) || lp(entry_n))

Whoever can write the database can write another chain: the head, remembered elsewhere, shows it.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import rfc8785
from sqlalchemy import Connection, func, select

from attestation.encoding import lp, strict_json
from attestation.errors import MalformedEvidence

from .errors import AuditBroken
from .schema import audit

LABEL: Final = b"cloister/audit/v1"
MAX_ENTRY: Final = 64 * 1024
MAX_TEXT: Final = 300
_HEAD = re.compile(r"(\d{1,12}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a log: how many entries, and the last one's hash."""

    count: int
    hash: bytes

    @classmethod
    def start(cls) -> Self:
        """The head of an empty log."""
        return cls(0, hashlib.sha256(LABEL).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """The head in `COUNT:HASH`; AuditBroken if it is none."""
        match = _HEAD.fullmatch(text.strip())
        if match is None:
            raise AuditBroken("a head is COUNT:HASH, as `cloister broker audit` prints it")
        return cls(int(match[1]), bytes.fromhex(match[2]))

    def after(self, entry: bytes) -> "Head":
        """The head once `entry` is appended."""
        digest = hashlib.sha256(LABEL + lp(self.hash) + lp(entry)).digest()
        return Head(self.count + 1, digest)

    def __str__(self) -> str:
        return f"{self.count}:{self.hash.hex()}"


def append(connection: Connection, now: float, event: str, **detail: Any) -> None:
    """Append one entry within the transaction of `connection`. No detail may hold a secret."""
    head = current_head(connection)
    entry = rfc8785.dumps({"at": int(now * 1000), "event": event} | _short(detail))
    following = head.after(entry)
    connection.execute(audit.insert().values(seq=following.count, entry=entry.decode(), hash=following.hash))


def current_head(connection: Connection) -> Head:
    """The head as the last row says it; `verify` finds whether it is true."""
    row = connection.execute(select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).first()
    return Head(row.seq, row.hash) if row is not None else Head.start()


def verify(connection: Connection, remembered: Head | None = None) -> Head:
    """The head, after every entry was hashed anew. AuditBroken names the first that does not fit.

    `remembered`: an earlier head that must lie on this chain; it shows what was cut off or written anew.
    """
    head, seen = Head.start(), remembered is None or remembered == Head.start()
    for row in connection.execute(select(audit).order_by(audit.c.seq)):
        head = head.after(row.entry.encode())
        if (row.seq, row.hash) != (head.count, head.hash):
            raise AuditBroken(f"entry {head.count} was altered, removed or inserted")
        seen = seen or head == remembered
    if not seen and remembered is not None:
        cut = head.count < remembered.count
        raise AuditBroken(
            f"the log ends at entry {head.count}, before the remembered {remembered.count}"
            if cut
            else f"entry {remembered.count} is not the remembered one: the log was written anew"
        )
    return head


def entries(connection: Connection, since: int = 0) -> Iterator[Mapping[str, Any]]:
    """The entries after number `since`, oldest first, each with its number under "seq"."""
    query = select(audit.c.seq, audit.c.entry).where(audit.c.seq > since).order_by(audit.c.seq)
    for row in connection.execute(query):
        try:
            yield {"seq": row.seq} | strict_json(row.entry.encode(), limit=MAX_ENTRY)
        except (MalformedEvidence, TypeError):
            raise AuditBroken(f"entry {row.seq} is not JSON") from None


def count(connection: Connection) -> int:
    """How many entries there are."""
    return int(connection.execute(select(func.count()).select_from(audit)).scalar_one())


def _short(value: Any) -> Any:
    """`value` with long texts cut: what others send ends up here. Lone surrogates are replaced."""
    if isinstance(value, str):
        return value[:MAX_TEXT].encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_short(str(name)): _short(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short(item) for item in value[:64]]
    return value
