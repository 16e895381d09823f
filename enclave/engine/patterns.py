"""Regular expressions that an adapter's owner wrote, run without backtracking (Rust's engine, as pydantic
brings it): an expression that takes for ever would hold up everybody's requests."""

from collections.abc import Collection
from functools import lru_cache
from typing import Final

from pydantic_core import SchemaError, SchemaValidator, core_schema

from .interface import ModelRefused

MAX_PATTERN: Final = 512
MAX_PATTERNS: Final = 4096


def matches(pattern: str, path: str) -> bool:
    """Whether `pattern` matches all of a layer's path. Raises ModelRefused for one that cannot be run."""
    return _matcher(pattern).isinstance_python(path)


def named(names: str | Collection[str], path: str) -> bool:
    """Whether a layer is named: by a pattern, or by its path or the end of it. Raises ModelRefused."""
    if isinstance(names, str):
        return matches(names, path)
    return path in names or any(path.endswith(f".{name}") for name in names)


def check_patterns(patterns: Collection[str]) -> None:
    """Raise ModelRefused for too many, or one that is not text of a length that is looked at."""
    if len(patterns) > MAX_PATTERNS:
        raise ModelRefused(f"an adapter's settings name more than {MAX_PATTERNS} layers")
    for pattern in patterns:
        if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
            raise ModelRefused(f"an adapter names layers in texts of at most {MAX_PATTERN} characters")


@lru_cache(maxsize=MAX_PATTERNS)
def _matcher(pattern: str) -> SchemaValidator:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=f"^(?:{pattern})$"))
    except SchemaError:
        raise ModelRefused(
            f"{pattern[:80]!r} is not a regular expression that runs in linear time: list the layers' names"
        ) from None
