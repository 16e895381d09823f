"""Two ends of one bus in one process, attached, and links over them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from enclave.gpu.bus import Bus, BusEnd, Geometry, Side
from enclave.gpu.link import Link
from enclave.memory import Kind as MemoryKind

MASTER = bytes(range(48))
SESSION = 0x00010002
SMALL = Geometry(control_slots=4, control_bytes=256, bulk_slots=2, bulk_bytes=1024)
ANY = tuple(MemoryKind)  # tests run where no memory can be locked, too


class Beside:
    """A call on a thread of its own; `result` gives what it returned, or raises what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._outcome: list[Any] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self._outcome.append(call())
        except BaseException as error:
            self._error = error

    def result(self, timeout: float = 20.0) -> Any:
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "it hangs"
        if self._error is not None:
            raise self._error
        return self._outcome[0]


def meet(one: BusEnd, other: BusEnd) -> None:
    """Attach both ends to each other."""
    beside = Beside(lambda: other.attach(10.0))
    one.attach(10.0)
    beside.result()


@contextmanager
def two_ends(geometry: Geometry = SMALL) -> Iterator[tuple[Bus, BusEnd, BusEnd]]:
    """The bus, the worker's end and the device's, attached."""
    with ExitStack() as stack:
        bus = stack.enter_context(Bus.create(geometry))
        worker = stack.enter_context(BusEnd(bus.descriptors, Side.WORKER, geometry))
        device = stack.enter_context(BusEnd(bus.descriptors, Side.DEVICE, geometry))
        meet(worker, device)
        yield bus, worker, device


def link_over(end: BusEnd, **options: Any) -> Link:
    """A link under the tests' secret."""
    return Link(end, MASTER, SESSION, **{"kinds": ANY, "timeout": 5.0, **options})


@contextmanager
def two_links(geometry: Geometry = SMALL, **options: Any) -> Iterator[tuple[Bus, Link, Link]]:
    """The bus and both ends of a session."""
    with ExitStack() as stack:
        bus, worker, device = stack.enter_context(two_ends(geometry))
        here = stack.enter_context(link_over(worker, **options))
        yield bus, here, stack.enter_context(link_over(device, **options))
