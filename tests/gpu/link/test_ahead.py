"""Chunks made ahead of their turn, and the toll that confidential hardware takes."""

import threading
import time
from collections.abc import Iterator

import pytest

from enclave.gpu.link import Toll, TolledLink, ahead
from tests.gpu.pairs import ANY, MASTER, SESSION, Beside, link_over, two_ends


def test_ahead_gives_the_same_items_and_the_same_error() -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise OSError("gone")

    taken = []
    with pytest.raises(OSError, match="gone"):
        for item in ahead(source()):
            taken.append(item)
    assert taken == [0, 1, 2, 3, 4]
    assert list(ahead([], 1)) == []


def test_ahead_stops_its_thread_when_nobody_asks_any_more() -> None:
    before = threading.active_count()
    items = ahead(iter(range(1000)))
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_a_toll_is_paid_for_every_record_either_way() -> None:
    toll = Toll(crossing=0.01, bandwidth=1e6)
    assert toll.seconds(10_000) == pytest.approx(0.02)
    with two_ends() as (_, one, other), link_over(other) as device:
        worker = TolledLink(one, MASTER, SESSION, kinds=ANY, toll=toll)
        begin = time.perf_counter()
        worker.send(b"x")
        device.receive()
        device.send(b"y")
        worker.receive()
        receiving = Beside(lambda: device.receive_bulk(memoryview(bytearray(2048))))
        worker.send_bulk([bytes(2048)])
        receiving.result()
        assert time.perf_counter() - begin >= 4 * 0.01 + 2050 / 1e6


@pytest.mark.parametrize("wrong", [{"crossing": -1.0}, {"bandwidth": 0.0}])
def test_a_toll_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="crossing"):
        Toll(**wrong)
