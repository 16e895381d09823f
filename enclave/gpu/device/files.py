"""A model's files across the link: the device asks for ranges, the worker sends them as bulk objects.

The device opens each chunk straight into the place where the weights will stay. The worker seals the next
chunk while the last is in flight, and makes the one after that on another thread.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from enclave.files import FilesError, FilledFiles, ModelFiles
from enclave.gpu.link import Link, TransferAborted, ahead

from .messages import ReadFile, encode

PIECE: Final = 1 << 19
BUFFERS: Final = 4
"""One is read into or decrypted into while others wait for their turn, and one is sealed."""
READ_TIMEOUT: Final = 60.0


class LinkedFiles(FilledFiles):
    """The device's side: files of the names and sizes that the worker announced."""

    piece = PIECE

    def __init__(
        self, link: Link, label: str, sizes: Mapping[str, int], between: Callable[[], None] = lambda: None
    ) -> None:
        """`between` is called after each range: other things may be waiting."""
        self._link = link
        self._between = between
        self._label = label
        self._sizes = dict(sizes)

    @property
    def label(self) -> str:
        return self._label

    @property
    def sizes(self) -> Mapping[str, int]:
        return self._sizes

    def fill(self, name: str, offset: int, into: memoryview) -> None:
        if not 0 <= offset <= offset + len(into) <= self._size(name):
            raise FilesError(f"{self._label}: {name} has no bytes {offset} to {offset + len(into)}")
        if not into.nbytes:
            return
        self._link.send(encode(ReadFile(name, offset, into.nbytes)))
        try:
            received = self._link.receive_bulk(into.cast("B"), timeout=READ_TIMEOUT)
        except TransferAborted:
            raise FilesError(f"{self._label}: {name} cannot be read by the worker") from None
        if received != into.nbytes:
            raise FilesError(f"{self._label}: {received} bytes of {name} came, not {into.nbytes}")
        self._between()


def send_range(link: Link, files: ModelFiles, wanted: ReadFile, failed: Callable[[FilesError], None]) -> None:
    """The worker's side: answer one ReadFile. A file that cannot be read is reported to `failed`.

    Raises LinkError. The device learns that the object is void, and fails to load.
    """

    long = wanted.length > BUFFERS * PIECE
    buffers = [memoryview(bytearray(min(PIECE, wanted.length))) for _ in range(BUFFERS if long else 1)]

    def pieces() -> Iterator[memoryview]:
        for number, offset in enumerate(range(wanted.offset, wanted.offset + wanted.length, PIECE)):
            piece = buffers[number % len(buffers)][: min(PIECE, wanted.offset + wanted.length - offset)]
            files.fill(wanted.name, offset, piece)
            yield piece

    try:
        link.send_bulk(ahead(pieces(), BUFFERS - 2) if long else pieces(), timeout=READ_TIMEOUT)
    except FilesError as error:
        failed(error)
