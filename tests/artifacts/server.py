"""An HTTP server on loopback that serves a directory with ranges, and can misbehave."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Misbehave = Callable[["Handler", bytes, int], bool]
"""Gets handler, what should be sent and how many requests came before; True if it has answered."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        with self.server.lock:
            number = self.server.requests
            self.server.requests += 1
            self.server.asked.append((self.path, self.headers.get("Range")))
        content = (self.server.directory / self.path.split("?")[0].rsplit("/", 1)[-1]).read_bytes()
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if match is None:
            self.answer(200, content)
            return
        first, last = int(match[1]), min(int(match[2]), len(content) - 1)
        part = content[first : last + 1]
        if self.server.misbehave is not None and self.server.misbehave(self, part, number):
            return
        if first >= len(content):
            self.answer(416, b"")
        else:
            self.answer(206, part, {"Content-Range": f"bytes {first}-{last}/{len(content)}"})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, directory: Path, misbehave: Misbehave | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.directory = directory
        self.misbehave = misbehave
        self.requests = 0
        self.asked: list[tuple[str, str | None]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/models/one"


@contextmanager
def serving(directory: Path, misbehave: Misbehave | None = None) -> Iterator[Server]:
    """The server, running."""
    server = Server(directory, misbehave)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
