"""HTTP to a broker: one request, one bounded answer, no redirects, no proxies, over TLS 1.3."""

import http.client
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlsplit

from attestation.loopback import is_loopback

from .errors import BrokerUnreachable

MAX_ANSWER: Final = 2 * 1024 * 1024
TIMEOUT: Final = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Transport(Protocol):
    """Carries one request to a broker. Raises BrokerUnreachable."""

    @property
    def name(self) -> str:
        """The broker's address, for messages."""

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer; blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """Where a broker is. `ca`: PEM of what its certificate must chain to; None for the system's roots.

    `plaintext` allows http, to loopback only. ValueError for what is no such address.
    """

    url: str
    ca: bytes | None = None
    plaintext: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.path.strip("/")
            or parts.query
        ):
            raise ValueError(f"a broker's address is https://HOST[:PORT], not {self.url!r}")
        if parts.scheme == "http" and not (self.plaintext and is_loopback(parts.hostname)):
            raise ValueError("a broker is reached over https; http is for loopback, with --broker-plaintext")


class HttpTransport:
    """`Transport` over sockets of its own: a connection for each request.

    `tls12` lets TLS 1.2 do, for services of others that do not carry keys under it.
    """

    def __init__(self, address: BrokerAddress, *, timeout: float = TIMEOUT, tls12: bool = False) -> None:
        self._address = address
        self._tls12 = tls12
        self._timeout = timeout
        parts = urlsplit(address.url)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)

    @property
    def name(self) -> str:
        """See `Transport`."""
        return self._address.url

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """See `Transport`."""
        connection = self._connection()
        try:
            connection.request(method, path, body or None, dict(headers) | {"connection": "close"})
            response = connection.getresponse()
            content = response.read(MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise BrokerUnreachable(f"{reason}; is a key broker running there?", broker=self.name) from None
        finally:
            connection.close()
        if len(content) > MAX_ANSWER:
            raise BrokerUnreachable(f"an answer of more than {MAX_ANSWER} bytes", broker=self.name)
        lower: dict[str, str] = {}
        for name, value in response.getheaders():  # a proxy before the broker may set cookies of its own
            before = lower.get(name.lower())
            lower[name.lower()] = value if before is None else f"{before}, {value}"
        return Answer(response.status, lower, content)

    def _connection(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        if self._secure:
            from .tls import connect  # loads OpenSSL's binding, which the command line starts without

            try:
                secured = connect(self._host, self._port, self._address.ca, self._timeout, tls12=self._tls12)
            except OSError as error:
                raise BrokerUnreachable(f"no TLS: {error}", broker=self.name) from None
            connection.sock = secured
        return connection
