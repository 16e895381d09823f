"""Weights for vLLM's processes: from `ModelFiles` in this one, over a private Unix socket to its children.

    request   u32be length, JSON {"name", "offset", "length"}
    answer    that many bytes of the file, or nothing and the end of the connection

The socket lies in a directory that only this user may enter; what crosses it stays in this machine's memory.
"""

import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...files import CHUNK, FilesError, ModelFiles

MAX_REQUEST = 4096
_LENGTH = struct.Struct(">I")


class Feeder:
    """Serves one model's files to whoever may enter the socket's directory, until closed."""

    def __init__(self, files: ModelFiles, path: Path) -> None:
        self._files = files
        self._one = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, name="weights", daemon=True).start()

    def close(self) -> None:
        """Stop taking connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while head := _exactly(connection, _LENGTH.size):
                    self._answer(connection, _exactly(connection, min(_LENGTH.unpack(head)[0], MAX_REQUEST)))
            except (OSError, ValueError, KeyError, TypeError, FilesError):
                return  # the child sees its connection end, and refuses to load

    def _answer(self, connection: socket.socket, raw: bytes) -> None:
        wanted = json.loads(raw)
        if wanted["name"] is None:
            listing = json.dumps(dict(self._files.sizes)).encode()
            connection.sendall(_LENGTH.pack(len(listing)) + listing)
            return
        buffer = bytearray(min(CHUNK, wanted["length"]))
        for at in range(0, wanted["length"], CHUNK):
            piece = memoryview(buffer)[: min(CHUNK, wanted["length"] - at)]
            with self._one:  # one thread reads at a time
                self._files.fill(wanted["name"], wanted["offset"] + at, piece)
            connection.sendall(piece)


class FedFiles:
    """The files that a `Feeder` serves. Implements `ModelFiles`; raises FilesError when it stops short."""

    def __init__(self, path: Path) -> None:
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connection.connect(str(path))
            self._ask(None, 0, 0)
            raw = self._take(_LENGTH.unpack(self._take(_LENGTH.size))[0])
        except OSError as error:
            self._connection.close()
            raise FilesError(f"the weights' socket cannot be reached: {error}") from None
        self._sizes: dict[str, int] = json.loads(raw)

    @property
    def label(self) -> str:
        return "the model that vLLM was given"

    @property
    def sizes(self) -> Mapping[str, int]:
        return self._sizes

    def read(self, name: str) -> bytes:
        content = bytearray(self._sizes[name])
        self.fill(name, 0, memoryview(content))
        return bytes(content)

    def chunks(self, name: str) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(CHUNK))
        for offset in range(0, self._sizes[name], CHUNK):
            piece = buffer[: min(CHUNK, self._sizes[name] - offset)]
            self.fill(name, offset, piece)
            yield piece

    def fill(self, name: str, offset: int, into: memoryview) -> None:
        self._ask(name, offset, len(into))
        done = 0
        while done < len(into):
            count = self._connection.recv_into(into[done:])
            if not count:
                raise FilesError(f"the weights' socket ended within {name}")
            done += count

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _ask(self, name: str | None, offset: int, length: int) -> None:
        raw = json.dumps({"name": name, "offset": offset, "length": length}).encode()
        self._connection.sendall(_LENGTH.pack(len(raw)) + raw)

    def _take(self, count: int) -> bytes:
        raw = _exactly(self._connection, count)
        if len(raw) != count:
            raise FilesError("the weights' socket ended early")
        return raw


def _exactly(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or nothing if the connection ended."""
    raw = bytearray()
    while len(raw) < count:
        piece = connection.recv(count - len(raw))
        if not piece:
            return b""
        raw += piece
    return bytes(raw)
