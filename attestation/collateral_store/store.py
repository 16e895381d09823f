"""The store: a directory of items under their own SHA-256, and which request each one answered.

    DIRECTORY/items/<kind>/<sha256>      an item's bytes
    DIRECTORY/answers/<sha256>.json      the items that answered a request, under the request's hash

Every file is written whole and never changed, so processes share a store without locks. What an
item is about and how long it holds is read from the item itself; nothing beside it can disagree.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ..collateral import Collateral, Kind
from ..encoding import canonical, strict_json
from ..errors import MalformedEvidence
from ..values import exact, sequence, string
from .facts import Facts, Freshness, describe
from .files import read_bounded, write_atomically

MAX_ITEM = 4 * 1024 * 1024
MAX_ANSWER = 64 * 1024
_NAME = re.compile(r"[0-9a-f]{64}")
_OLDEST = datetime.min.replace(tzinfo=UTC)


class Item(NamedTuple):
    """Collateral of one kind, in the vendor's own encoding."""

    kind: Kind
    raw: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, hexadecimal: the item's name in a store."""
        return hashlib.sha256(self.raw).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """An item in a store, and what it says of itself."""

    item: Item
    facts: Facts


def default_directory() -> Path:
    """`cloister/collateral` in the user's cache (XDG Base Directory; `~/.cache` by default)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return root / "cloister" / "collateral"


class Store:
    """A directory of collateral; it need not exist yet. `problems` collects what was passed over, and why."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or default_directory()
        self.problems: list[str] = []

    def put(self, item: Item) -> Entry:
        """Keep `item`; MalformedEvidence if it does not have the form of its kind. Raises OSError."""
        if len(item.raw) > MAX_ITEM:
            raise MalformedEvidence(f"{item.kind} of {len(item.raw)} bytes exceeds {MAX_ITEM}")
        entry = Entry(item, describe(item.kind, item.raw))
        path = self._path(item.kind, item.digest)
        if read_bounded(path, MAX_ITEM) != item.raw:
            write_atomically(path, item.raw)
        return entry

    def record(self, asked: str, items: Iterable[Item], at: datetime) -> None:
        """Keep `items` as the answer that the request `asked` got at `at`."""
        found = [self.put(item).item for item in items]
        table = {
            "asked": asked,
            "at": int(at.timestamp()),
            "items": [[str(item.kind), item.digest] for item in found],
        }
        write_atomically(self._answer(asked), canonical(table))

    def answer(self, asked: str, now: datetime) -> tuple[Item, ...]:
        """The items that answered the request `asked`, if all are at hand and fresh; else nothing."""
        raw = read_bounded(self._answer(asked), MAX_ANSWER)
        if raw is None:
            return ()
        try:
            table = exact(strict_json(raw, limit=MAX_ANSWER), {"asked", "at", "items"}, "answer")
            names = [_reference(item) for item in sequence(table["items"], "items", 64)]
        except MalformedEvidence as error:
            self.problems.append(f"{self._answer(asked)}: {error}; it is ignored")
            return ()
        entries = [self._load(kind, name) for kind, name in names if table["asked"] == asked]
        fresh = [e for e in entries if e is not None and e.facts.freshness(now) is Freshness.FRESH]
        return tuple(entry.item for entry in fresh) if len(fresh) == len(names) else ()

    def entries(self) -> Iterator[Entry]:
        """Every item that is whole, fresh or not, by kind and name; the rest goes to `problems`."""
        for kind in Kind:
            folder = self.directory / "items" / kind
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if _NAME.fullmatch(path.name):
                    entry = self._load(kind, path.name)
                    if entry is not None:
                        yield entry

    def collateral(self, now: datetime) -> Collateral:
        """What is fresh at `now`: of the items of one kind that say the same, the newest."""
        newest: dict[tuple[Kind, str], Entry] = {}
        for entry in self.entries():
            key = entry.item.kind, entry.facts.subject
            if entry.facts.freshness(now) is Freshness.FRESH:
                newest[key] = max(newest.get(key, entry), entry, key=_since)
        return gathered(entry.item for entry in newest.values())

    def _load(self, kind: Kind, name: str) -> Entry | None:
        path = self._path(kind, name)
        raw = read_bounded(path, MAX_ITEM)
        if raw is None:
            self.problems.append(f"{path}: not there, or too large; it is ignored")
            return None
        item = Item(kind, raw)
        if item.digest != name:
            self.problems.append(f"{path}: damaged, its SHA-256 is {item.digest}; it is ignored")
            return None
        try:
            return Entry(item, describe(kind, raw))
        except MalformedEvidence as error:
            self.problems.append(f"{path}: not {kind}: {error}; it is ignored")
            return None

    def _path(self, kind: Kind, name: str) -> Path:
        return self.directory / "items" / kind / name

    def _answer(self, asked: str) -> Path:
        return self.directory / "answers" / f"{hashlib.sha256(asked.encode()).hexdigest()}.json"


def gathered(items: Iterable[Item]) -> Collateral:
    """`items` as collateral, each once, kinds in the order of `Kind`."""
    distinct = list(dict.fromkeys(items))
    table = {kind: tuple(item.raw for item in distinct if item.kind is kind) for kind in Kind}
    return Collateral(MappingProxyType({kind: found for kind, found in table.items() if found}))


def _since(entry: Entry) -> datetime:
    return entry.facts.not_before or _OLDEST


def _reference(value: object) -> tuple[Kind, str]:
    kind, name = (string(part) for part in _pair(value))
    if kind not in set(Kind) or not _NAME.fullmatch(name):
        raise MalformedEvidence("an answer names no item")
    return Kind(kind), name


def _pair(value: object) -> list[object]:
    parts = sequence(value, "item", 2)
    if len(parts) != 2:
        raise MalformedEvidence("an answer names no item")
    return parts
