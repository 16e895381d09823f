"""Making what is to be sent while what was made before is sealed and crosses."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

_LOOK: Final = 0.2
_T = TypeVar("_T")


def ahead(items: Iterable[_T], depth: int = 2) -> Iterator[_T]:
    """The same items, made on a thread up to `depth` ahead of who asks: chunk i+1 while chunk i is sealed.

    An item must stay valid until `depth` + 1 later ones have been asked for. What `items` raises is raised
    here, in its place.
    """
    made: queue.Queue[tuple[bool, _T | BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: tuple[bool, _T | BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                made.put(entry, timeout=_LOOK)
                return
            except queue.Full:
                continue

    def make() -> None:
        try:
            for item in items:
                put((True, item))
                if stopped.is_set():
                    return
            put((False, None))
        except BaseException as error:  # whatever it is, the one who asks gets it
            put((False, error))

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, item = made.get()
            if isinstance(item, BaseException) and not more:
                raise item
            if not more:
                return
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
