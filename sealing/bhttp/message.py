"""HTTP messages as binary HTTP carries them, and the rules a message obeys (RFC 9292, sections 3.4 to 3.6).

The same rules hold for what is encoded and what is decoded. Stricter than the RFC, on purpose: fields about
connections and every pseudo-field are refused (no extension that defines one is used here), and so is
CONNECT, which this format cannot carry out. Text forms leave out fields and bodies: they hold secrets.
"""

import re
from dataclasses import dataclass, field
from typing import Final

Field = tuple[bytes, bytes]
Fields = tuple[Field, ...]

CONNECTION_FIELDS: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
)
"""Names that speak of one connection (RFC 9110, section 7.6.1); strip them before encoding."""

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.\-]*")
_AUTHORITY: Final = re.compile(r"[!-?A-~]*")
_PATH: Final = re.compile(r"/[!-\"$-~]*")


@dataclass(frozen=True, slots=True)
class Request:
    """A request; text is ASCII. `authority` may be empty, `path` starts with "/" (or is "*" for OPTIONS)."""

    method: str
    scheme: str
    authority: str
    path: str
    headers: Fields = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    trailers: Fields = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Informational:
    """An informational response: status 100 to 199, and its fields."""

    status: int
    headers: Fields = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """A final response, status 200 to 599, and the informational ones before it."""

    status: int
    headers: Fields = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    trailers: Fields = field(default=(), repr=False)
    informational: tuple[Informational, ...] = ()


def field_fault(name: bytes, value: bytes) -> str | None:
    """What is wrong with a field (RFC 9113, section 8.2.1), or None. Never quotes the value."""
    if name.startswith(b":"):
        return "a pseudo-field"
    if _TOKEN.fullmatch(name) is None:
        return "a field name is not a lower-case token"
    if name in CONNECTION_FIELDS:
        return "a field about the connection"
    if value != value.strip(b" \t") or b"\x00" in value or b"\r" in value or b"\n" in value:
        return "a field value holds NUL, CR or LF, or starts or ends with white space"
    return None


def control_fault(method: str, scheme: str, authority: str, path: str) -> str | None:
    """What is wrong with a request's control data (RFC 9113, section 8.3.1), or None."""
    if _METHOD.fullmatch(method) is None or method == "CONNECT":
        return "the method is not a token, or is CONNECT"
    if _SCHEME.fullmatch(scheme) is None:
        return "the scheme is not a lower-case URI scheme"
    if _AUTHORITY.fullmatch(authority) is None:
        return "the authority holds user information, white space or a byte outside ASCII"
    if _PATH.fullmatch(path) is None and (method, path) != ("OPTIONS", "*"):
        return (
            "the path does not start with a slash, or holds white space, a fragment or a byte outside ASCII"
        )
    return None


def host_fault(authority: str, headers: Fields) -> str | None:
    """Whether `host` contradicts the authority or is repeated: two readers could then see two hosts."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1:
        return "more than one host field"
    if hosts and authority and hosts[0].lower() != authority.lower().encode():
        return "the host field differs from the authority"
    return None


def status_fault(status: int, *, informational: bool) -> str | None:
    """Whether a status is outside 100..199 (informational) or 200..599 (final)."""
    low, high = (100, 199) if informational else (200, 599)
    return None if low <= status <= high else f"a status outside {low} to {high}"
