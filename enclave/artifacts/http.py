"""Sealed artifacts on an HTTP server that knows ranges. Redirects are refused, failures tried again."""

import http.client
import re
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlunsplit

from sealing.artifact import CHUNKS_NAME, MANIFEST_NAME, MAX_MANIFEST

from .stores import StoreError, split_address

TRIES: Final = 5
MAX_TRIES: Final = 100
PAUSE: Final = 0.2
"""Seconds before the second try; each further one waits twice as long."""
TIMEOUT: Final = 30.0
_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Again(Exception):
    """Worth another try; the message says why. `progress`: something arrived, so patience begins anew."""

    def __init__(self, reason: str, *, progress: bool = False) -> None:
        super().__init__(reason)
        self.progress = progress


class HttpStore:
    """An artifact at `url`: `url`/manifest.cose and `url`/chunks. A query is sent along and not shown."""

    distant = True

    def __init__(
        self, url: str, *, pause: float = PAUSE, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Raises StoreError for an address that is none. Asks nobody yet."""
        self._parts = split_address(url)
        self._pause = pause
        self._sleep = sleep
        self._local = threading.local()
        self._open: list[http.client.HTTPConnection] = []
        self._context = ssl.create_default_context() if self._parts.scheme == "https" else None

    @property
    def label(self) -> str:
        return urlunsplit(self._parts._replace(query="", fragment=""))

    def manifest(self) -> bytes:
        raw = bytearray()

        def ask() -> None:
            raw.clear()
            response = self._get(MANIFEST_NAME, {})
            if response.status != 200:
                raise self._refused(response, MANIFEST_NAME)
            raw.extend(response.read(MAX_MANIFEST + 1))
            if response.length:  # whatever is left would answer the next question
                self._drop()

        self._tried(ask, MANIFEST_NAME)
        return bytes(raw)

    def read_into(self, offset: int, into: memoryview) -> None:
        done = [0]  # what arrived stays: a try goes on where the last one broke off

        def ask() -> None:
            count = self._range(offset + done[0], into[done[0] :])
            done[0] += count
            if done[0] < len(into):
                raise _Again("the connection broke off", progress=count > 0)

        self._tried(ask, CHUNKS_NAME)

    def close(self) -> None:
        for connection in self._open:
            connection.close()
        self._open.clear()

    def _range(self, offset: int, into: memoryview) -> int:
        """Bytes that arrived, at most those asked for."""
        last = offset + len(into) - 1
        response = self._get(CHUNKS_NAME, {"Range": f"bytes={offset}-{last}"})
        if response.status != 206:
            raise self._refused(response, CHUNKS_NAME)
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != offset or int(match[2]) > last:
            self._drop()
            raise StoreError(f"{self.label}/{CHUNKS_NAME}: the server sends another range than asked for")
        if int(match[2]) < last:
            self._drop()
            raise StoreError(f"{self.label}/{CHUNKS_NAME} ends at byte {int(match[2])}, before byte {last}")
        count = 0
        try:
            while count < len(into):
                read = response.readinto(into[count:])
                if not read:
                    break
                count += read
        except (http.client.HTTPException, OSError):
            self._drop()
        if not response.isclosed():  # more than was asked for, or a trailer: no next answer may begin with it
            self._drop()
        return count

    def _get(self, name: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        path = f"{self._parts.path.rstrip('/')}/{name}" + (
            f"?{self._parts.query}" if self._parts.query else ""
        )
        connection = self._connection()
        try:
            connection.request("GET", path, headers=headers | {"Accept-Encoding": "identity"})
            return connection.getresponse()
        except (http.client.HTTPException, OSError) as error:
            self._drop()
            raise _Again(str(error) or type(error).__name__) from None

    def _refused(self, response: http.client.HTTPResponse, name: str) -> Exception:
        self._drop()
        where = f"{self.label}/{name}"
        if response.status in _AGAIN:
            return _Again(f"{response.status} {response.reason}")
        if 300 <= response.status < 400:
            return StoreError(f"{where} redirects, which is not followed: give the address it leads to")
        if response.status == 200:
            return StoreError(f"{where}: the server does not know ranges")
        if response.status == 416:
            return StoreError(f"{where} is shorter than the manifest says")
        return StoreError(f"{where}: {response.status} {response.reason}")

    def _tried(self, ask: Callable[[], None], name: str) -> None:
        failures, reason = 0, ""
        for _ in range(MAX_TRIES):
            try:
                return ask()
            except _Again as again:
                failures, reason = 1 if again.progress else failures + 1, str(again)
                if failures == TRIES:
                    break
                self._drop()
                self._sleep(self._pause * 2 ** (failures - 1))
        raise StoreError(f"{self.label}/{name}: {reason}, {TRIES} times")

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's connection."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            host, port = self._parts.hostname or "", self._parts.port
            if self._context is not None:
                connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=self._context)
            else:
                connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
            self._local.connection = connection
            self._open.append(connection)
        return connection

    def _drop(self) -> None:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None
            if connection in self._open:
                self._open.remove(connection)
