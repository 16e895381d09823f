"""A table of a policy file, read strictly: every key is taken once, with a type, or refused."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from .errors import PolicyError

T = TypeVar("T")
MISSING: Any = object()


class Section:
    """One TOML table. Take every key it may hold, then call `close`.

    A missing key without a default, a wrong type and an unknown key are PolicyError, with the
    key's full name and, for a misspelling, the name that was probably meant.
    """

    def __init__(self, name: str, table: Mapping[str, Any]) -> None:
        self.name = name
        self._table = table
        self._known: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._table

    def take(self, key: str, kind: type[T], default: T = MISSING, *, hint: str = "") -> T:
        """The value of `key`, of exactly the type `kind`; `hint` says what to write if it is missing."""
        self._known.add(key)
        value = self._table.get(key, default)
        if value is MISSING:
            raise PolicyError(f"{self._full(key)} is missing{'; ' + hint if hint else ''}")
        if type(value) is not kind:
            raise PolicyError(f"{self._full(key)} is {value!r}, not {kind.__name__}")
        return value

    def flag(self, key: str) -> bool:
        """A weakening that must be spelled out: false unless the policy says `key = true`."""
        return self.take(key, bool, False)

    def instead(self, weakening: str, key: str) -> bool:
        """Whether `weakening` is spelled out in the place of `key`; exactly one of them belongs there."""
        chosen = self.flag(weakening)
        if chosen == (key in self):
            raise PolicyError(f"{self.name}: write {key}, or only if none is wanted {weakening} = true")
        return chosen

    def integer(self, key: str, low: int, high: int, default: int = MISSING) -> int:
        """An integer from `low` to `high`."""
        value = self.take(key, int, default)
        if not low <= value <= high:
            raise PolicyError(f"{self._full(key)} is {value}, not between {low} and {high}")
        return value

    def texts(self, key: str, default: list[str] = MISSING, *, hint: str = "") -> frozenset[str]:
        """An array of strings, as a set."""
        values = self.take(key, list, default, hint=hint)
        for value in values:
            if type(value) is not str:
                raise PolicyError(f"{self._full(key)} holds {value!r}, not a string")
        return frozenset(values)

    def choices(self, key: str, allowed: set[str], default: list[str] = MISSING) -> frozenset[str]:
        """An array of strings out of `allowed`, as a set."""
        values = self.texts(key, default, hint=f"choose from {sorted(allowed)}")
        for value in values - allowed:
            raise PolicyError(f"{self._full(key)}: {value!r} is unknown{_suggest(value, allowed)}")
        return values

    def choice(self, key: str, allowed: set[str], default: str = MISSING) -> str:
        """One string out of `allowed`."""
        value = self.take(key, str, default, hint=f"choose from {sorted(allowed)}")
        if value not in allowed:
            raise PolicyError(f"{self._full(key)}: {value!r} is unknown{_suggest(value, allowed)}")
        return value

    def digests(
        self, key: str, size: int, default: list[str] = MISSING, *, hint: str = ""
    ) -> frozenset[bytes]:
        """An array of hexadecimal strings of `size` bytes each, as a set."""
        return frozenset(self._hex(key, text, size) for text in self.texts(key, default, hint=hint))

    def pins(
        self, key: str, size: int, default: list[str] = MISSING, *, hint: str = ""
    ) -> tuple[frozenset[bytes], frozenset[tuple[str, bytes]]]:
        """An array of digests as `digests` takes them, some behind a name: "name=digest"; both sets."""
        texts = self.texts(key, default, hint=hint)
        named = [text.rpartition("=")[::2] for text in texts if "=" in text]
        if any(not name for name, _ in named):
            raise PolicyError(f"{self._full(key)} has a digest behind an empty name")
        plain = frozenset(self._hex(key, text, size) for text in texts if "=" not in text)
        return plain, frozenset((name, self._hex(key, text, size)) for name, text in named)

    def digest(self, key: str, size: int, default: str = MISSING) -> bytes:
        """One hexadecimal string of `size` bytes."""
        return self._hex(key, self.take(key, str, default), size)

    def instant(self, key: str, default: datetime = MISSING) -> datetime:
        """A TOML date-time with its offset."""
        value = self.take(key, datetime, default)
        if value is not default and value.tzinfo is None:
            raise PolicyError(f"{self._full(key)} has no offset; write for example 2026-01-01T00:00:00Z")
        return value

    def table(self, key: str, parse: Callable[["Section"], T], default: T = MISSING) -> T:
        """The sub-table `key` read by `parse`, which must not leave a key untaken."""
        self._known.add(key)
        if key not in self._table:
            if default is MISSING:
                raise PolicyError(f"[{self._full(key)}] is missing")
            return default
        value = self._table[key]
        if not isinstance(value, dict):
            raise PolicyError(f"{self._full(key)} is {type(value).__name__}, not a table")
        section = Section(self._full(key), value)
        parsed = parse(section)
        section.close()
        return parsed

    def close(self) -> None:
        """PolicyError if a key is left that nothing took."""
        for key in sorted(self._table.keys() - self._known):
            raise PolicyError(f"{self._full(key)} is unknown{_suggest(key, self._known)}")

    def _full(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def _hex(self, key: str, text: str, size: int) -> bytes:
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raise PolicyError(f"{self._full(key)}: {text!r} is not hexadecimal") from None
        if len(raw) != size:
            raise PolicyError(f"{self._full(key)}: {text!r} is {len(raw)} bytes, not {size}")
        return raw


def _suggest(word: str, known: set[str]) -> str:
    import difflib  # only a policy that is wrong needs it

    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known)) or 'nothing'}"


def toml_value(value: object) -> str:
    """A string, number, truth or list of them as TOML writes it: JSON, but for surrogate pairs and DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
