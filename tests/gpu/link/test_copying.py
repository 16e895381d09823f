"""Crossings on threads of their own, and the toll that confidential hardware takes."""

import threading
import time
from collections.abc import Iterator

import pytest

from enclave.gpu.bus import LinkBroken, LinkTimeout, Reason
from enclave.gpu.link import CopyWorker, Kind, Toll, TolledLink, ahead
from tests.gpu.pairs import ANY, MASTER, SESSION, Beside, link_over, two_ends, two_links


def test_a_copy_worker_keeps_the_order_both_ways() -> None:
    with two_links() as (_, worker, device), CopyWorker(worker) as copies:

        def echo() -> None:
            for _ in range(100):
                device.send(device.receive()[1])

        echoing = Beside(echo)
        for index in range(100):
            copies.send(bytes((index,)))
        assert [copies.receive() for _ in range(100)] == [(Kind.MESSAGE, bytes((i,))) for i in range(100)]
        echoing.result()


def test_what_is_queued_crosses_before_a_copy_worker_closes() -> None:
    with two_ends() as (_, one, other), link_over(other) as device:
        copies = CopyWorker(link_over(one))
        for index in range(3):
            copies.send(bytes((index,)))
        copies.close()
        assert [device.receive()[1] for _ in range(3)] == [bytes((i,)) for i in range(3)]
        with pytest.raises(LinkBroken) as caught:
            device.receive()
        assert caught.value.reason is Reason.CLOSED


def test_a_copy_worker_tells_of_a_dead_session() -> None:
    with two_links() as (_, worker, device):
        copies = CopyWorker(worker)
        device._fail(LinkBroken(Reason.TAG))
        with pytest.raises(LinkBroken) as caught:
            copies.receive(timeout=5.0)
        assert caught.value.reason is Reason.PEER
        with pytest.raises(LinkBroken):
            copies.send(b"x")
        copies.close()


def test_nobody_reading_is_a_deadline_not_a_hang() -> None:
    with two_links(timeout=0.1) as (_, worker, _device), CopyWorker(worker, depth=2) as copies:
        with pytest.raises((LinkTimeout, LinkBroken)):
            for _ in range(20):
                copies.send(b"x")
        with pytest.raises((LinkTimeout, LinkBroken)):
            copies.receive()


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
