"""HTTPS to the vendors' services: bounded in size and time, patient with busy servers, led nowhere else."""

import asyncio
import email.utils
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urljoin, urlsplit

import aiohttp

from .request import Reply, Request, unavailable
from .services import Service, Services

BUSY = frozenset({429, 500, 502, 503, 504})
MOVED = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 3
CHECK_NETWORK = "check the network, or name a mirror that can be reached"
TRY_LATER = "try again later, or name a mirror"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait: seconds for one exchange, tries, first pause (then doubled), all pauses together."""

    timeout: float = 30.0
    attempts: int = 4
    pause: float = 1.0
    total: float = 60.0


class _Busy(Exception):
    """A failure that may pass; `after` is how long the server asks to wait, in seconds."""

    def __init__(self, cause: str, after: float | None = None, *, remedy: str = TRY_LATER) -> None:
        super().__init__(cause)
        self.after, self.remedy = after, remedy


class Transport:
    """Sends requests to `services`; use as an asynchronous context manager.

    System trust for TLS; no proxy, cookie or credential is taken from the environment.
    """

    def __init__(
        self,
        services: Services,
        patience: Patience | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._services, self._patience, self._sleep = services, patience or Patience(), sleep
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._patience.timeout),
            connector=aiohttp.TCPConnector(limit=8, limit_per_host=2),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "cloister"},
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, request: Request) -> Reply:
        """The answer to `request`; CollateralUnavailable if there is none, also after a few tries."""
        waited, pause = 0.0, self._patience.pause
        for attempt in range(1, self._patience.attempts + 1):
            try:
                return await self._exchange(request)
            except _Busy as busy:
                delay = pause if busy.after is None else busy.after
                if attempt == self._patience.attempts or waited + delay > self._patience.total:
                    asks = f" and asks to wait {busy.after:.0f} s" if busy.after else ""
                    cause = f"{busy}{asks}, {attempt} of {self._patience.attempts} tries"
                    raise unavailable(self.where(request), cause, busy.remedy) from None
                await self._sleep(delay)
                waited, pause = waited + delay, pause * 2
        raise ValueError("patience for no attempt at all")

    def where(self, request: Request) -> str:
        """Host and path of `request`."""
        base = urlsplit(self._services.base(request.service))
        return f"{base.netloc}{base.path}{request.path}"

    async def _exchange(self, request: Request) -> Reply:
        url = self._services.base(request.service) + request.target
        for _ in range(MAX_REDIRECTS + 1):
            try:
                answer = await self._once(request, url)
            except aiohttp.ClientConnectorCertificateError:
                raise unavailable(
                    self.where(request), "its TLS certificate does not verify", "check clock and system trust"
                ) from None
            except (TimeoutError, aiohttp.ServerTimeoutError):
                raise _Busy(f"no answer within {self._patience.timeout:g} s") from None
            except aiohttp.ClientError as error:
                cause = f"the exchange failed ({type(error).__name__})"
                raise _Busy(cause, remedy=CHECK_NETWORK) from None
            if isinstance(answer, Reply):
                return answer
            url = self._followed(request, url, answer)
        raise unavailable(self.where(request), "redirects without end", CHECK_NETWORK)

    async def _once(self, request: Request, url: str) -> Reply | str:
        """The answer at `url`, or where it redirects to."""
        assert self._session is not None, "use `async with`"  # noqa: S101
        method = "GET" if request.body is None else "POST"
        async with self._session.request(
            method, url, data=request.body, headers=self._headers(request), allow_redirects=False
        ) as response:
            if response.status in MOVED and request.body is None:
                return response.headers.get("Location", "")
            self._check_status(request, response)
            body = await self._body(request, response)
            return Reply(body, {name.lower(): value for name, value in response.headers.items()})

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {"Content-Type": request.content_type} if request.body is not None else {}
        key = self._services.rim_key
        if key and request.service is Service.NVIDIA_RIM and self._services.official(request.service):
            headers["Authorization"] = f"Bearer {key}"
        return headers

    def _check_status(self, request: Request, response: aiohttp.ClientResponse) -> None:
        status = response.status
        if status in BUSY:
            raise _Busy(f"answers {status}", _retry_after(response.headers.get("Retry-After")))
        if status == 404:
            remedy = "check that the evidence is what it should be; the vendor may not have published it yet"
            raise unavailable(self.where(request), "it does not have this (404)", remedy)
        if status in (401, 403):
            raise unavailable(
                self.where(request), f"access refused ({status})", "check the key, or the mirror"
            )
        if status != 200:
            raise unavailable(self.where(request), f"answers {status}", "check the address of the service")

    async def _body(self, request: Request, response: aiohttp.ClientResponse) -> bytes:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise unavailable(self.where(request), "the answer is compressed", "check the mirror")
        raw = bytearray()
        async for chunk in response.content.iter_chunked(64 * 1024):
            raw += chunk
            if len(raw) > request.limit:
                cause = f"the answer is longer than {request.limit} bytes"
                raise unavailable(self.where(request), cause, "check the address of the service")
        return bytes(raw)

    def _followed(self, request: Request, url: str, location: str) -> str:
        """Where a redirect leads, if that is the same origin."""
        target = urljoin(url, location)
        old, new = urlsplit(url), urlsplit(target)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            cause = f"redirects to another host, {new.hostname or 'none'}"
            raise unavailable(self.where(request), cause, "name that host as the service, if you trust it")
        return target


def _retry_after(value: str | None) -> float | None:
    """Seconds in a Retry-After header (RFC 9110, section 10.2.3): a number, or a date; None for neither."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())
