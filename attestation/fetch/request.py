"""What is asked of a service and what its answer must look like. No IO, and no host."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from ..collateral_store import Item
from ..errors import CollateralUnavailable
from .services import Service

Items = tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """A body, and the response headers by lower-case name."""

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request and the reader of its answer.

    `path` is of plain segments and is quoted here; `limit` bounds the body in bytes; `read` turns
    an answer into items or raises MalformedEvidence. `body` makes it a POST of `content_type`.
    `name` says what is asked where the target does not, or not everywhere alike.
    """

    service: Service
    path: str
    read: Callable[[Reply], Items] = field(repr=False, compare=False)
    query: tuple[tuple[str, str], ...] = ()
    limit: int = 64 * 1024
    body: bytes | None = field(default=None, repr=False, compare=False)
    content_type: str = ""
    name: str = ""

    @property
    def target(self) -> str:
        """Path and query, quoted."""
        query = f"?{urlencode(self.query)}" if self.query else ""
        return quote(self.path, safe="/") + query

    @property
    def asked(self) -> str:
        """What tells this request from others, wherever its service is."""
        return f"{self.service} {self.name or self.target}"


def unavailable(where: str, cause: str, remedy: str) -> CollateralUnavailable:
    """The error that says where collateral was looked for, why there is none, and what to do."""
    return CollateralUnavailable(f"{where}: {cause}; {remedy}")
