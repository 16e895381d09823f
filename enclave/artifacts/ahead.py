"""Ciphertext of chunks to come, asked for before it is needed: distant stores answer late."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from sealing.artifact import Chunk, Layout

from .stores import Store

WINDOW: Final = 8
"""Chunks that are asked for or waiting at a time."""
ASKERS: Final = 4


class ReadAhead:
    """Fetches chunks in their order, `WINDOW` ahead of the last one asked for. Threads may share it."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store = store
        self._layout = layout
        self._pool = ThreadPoolExecutor(ASKERS, "fetch")
        self._lock = threading.Lock()
        self._coming: dict[int, Future[memoryview]] = {}

    def get(self, chunk: Chunk) -> memoryview:
        """The chunk's ciphertext as the store gives it. Raises StoreError."""
        with self._lock:
            last = min(chunk.counter + WINDOW, self._layout.chunks)
            for counter in range(chunk.counter, last):
                if counter not in self._coming:
                    self._coming[counter] = self._pool.submit(self._fetch, counter)
            for counter in [one for one in self._coming if not -2 <= one - chunk.counter < WINDOW]:
                self._coming.pop(counter).cancel()
            future = self._coming.pop(chunk.counter)
        return future.result()

    def close(self) -> None:
        """Stop fetching; what is on its way is waited for."""
        with self._lock:
            for future in self._coming.values():
                future.cancel()
            self._coming.clear()
        self._pool.shutdown()

    def _fetch(self, counter: int) -> memoryview:
        chunk = self._layout.chunk(counter)
        into = memoryview(bytearray(chunk.length))
        self._store.read_into(chunk.offset, into)
        return into
