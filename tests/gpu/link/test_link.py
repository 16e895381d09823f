"""A session: what is sent arrives, in order and whole; what is wrong ends it, on both ends, with a reason."""

import os
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.gpu.bus import Geometry, LinkBroken, LinkTimeout, Reason
from enclave.gpu.bus.geometry import Class
from enclave.gpu.link import Kind, Link, SpdmPort, TransferAborted
from enclave.gpu.link.kinds import MAX_MESSAGE, MAX_SPDM
from enclave.gpu.link.records import MAX_BLOCKS, records_per_key
from tests.descriptors import held, settled
from tests.gpu.pairs import ANY, MASTER, SESSION, SMALL, Beside, link_over, meet, two_ends, two_links

DIRECT = [True, False]
ROOMY = Geometry(control_slots=64, control_bytes=256, bulk_slots=4, bulk_bytes=1024)


def broken(call: Beside) -> Reason:
    with pytest.raises(LinkBroken) as caught:
        call.result()
    return caught.value.reason


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=700), max_size=12))
def test_messages_arrive_in_both_directions(messages: list[bytes]) -> None:
    with two_links(ROOMY) as (_, worker, device):
        for here, there in ((worker, device), (device, worker)):
            for data in messages:
                here.send(data)
                assert there.receive() == (Kind.MESSAGE, data)


@pytest.mark.parametrize("direct", DIRECT)
@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 5 * 1024, 70_001])
def test_a_bulk_object_arrives_whole(size: int, direct: bool) -> None:
    data = os.urandom(size)
    with two_links(direct=direct) as (_, worker, device):
        into = memoryview(bytearray(size))
        receiving = Beside(lambda: device.receive_bulk(into))
        assert worker.send_bulk([data[:100], b"", memoryview(data)[100:]]) == size
        assert receiving.result() == size and into == data
        statistics = worker.statistics()
        assert statistics.bulk_bytes_sent == size == device.statistics().bulk_bytes_received
        assert statistics.direct is direct


def test_bulk_and_messages_do_not_wait_for_each_other() -> None:
    with two_links() as (_, worker, device):
        sending = Beside(lambda: worker.send_bulk([bytes(50_000)]))  # nobody reads it yet
        for index in range(50):
            worker.send(bytes((index,)))
            assert device.receive()[1] == bytes((index,))
        assert device.receive_bulk(memoryview(bytearray(50_000))) == 50_000 == sending.result()


@pytest.mark.parametrize("size", [257, 1000, MAX_MESSAGE])
def test_a_long_message_travels_in_parts(size: int) -> None:
    data = os.urandom(size)
    with two_links() as (_, worker, device):
        receiving = Beside(device.receive)
        worker.send(data)
        assert receiving.result() == (Kind.MESSAGE, data)
        with pytest.raises(ValueError, match="at most"):
            worker.send(bytes(MAX_MESSAGE + 1))
        worker.send(b"the session goes on")
        assert device.receive()[1] == b"the session goes on"


@pytest.mark.parametrize("size", [0, 1, 256, 257, MAX_SPDM])
def test_spdm_travels_before_and_beside_a_session(size: int) -> None:
    data = os.urandom(size)
    with two_ends() as (_, one, other):
        here, there = SpdmPort(one), SpdmPort(other)
        receiving = Beside(there.receive)
        here.send(data)
        assert receiving.result() == data
        with pytest.raises(ValueError, match="at most"):
            here.send(bytes(MAX_SPDM + 1))
        with link_over(one) as worker, link_over(other) as device:
            receiving = Beside(device.receive)
            worker.send_spdm(data)
            assert receiving.result() == (Kind.SPDM, data)


def test_an_spdm_exchange_keeps_the_messages_that_come_between() -> None:
    with two_links(ROOMY) as (_, worker, device):

        def answer() -> None:
            assert device.receive() == (Kind.SPDM, b"measure")
            device.send(b"token 1")
            device.send(b"token 2")
            device.send_spdm(b"measured")

        answering = Beside(answer)
        assert worker.exchange_spdm(b"measure") == b"measured"
        answering.result()
        assert [worker.receive()[1] for _ in range(2)] == [b"token 1", b"token 2"]


def test_a_protected_record_before_a_session_is_refused() -> None:
    with two_ends() as (_, one, other), link_over(one) as worker:
        worker.send(b"early")
        assert broken(Beside(SpdmPort(other).receive)) is Reason.PROTOCOL


@pytest.mark.parametrize("failure", [OSError, TransferAborted])
def test_a_source_that_fails_voids_the_object_and_not_the_session(failure: type[Exception]) -> None:
    def source() -> Iterator[bytes]:
        yield bytes(3000)
        raise failure("the store is gone")

    with two_links() as (_, worker, device):
        receiving = Beside(lambda: device.receive_bulk(memoryview(bytearray(9000))))
        with pytest.raises(failure, match="store"):
            worker.send_bulk(source())
        with pytest.raises(TransferAborted):
            receiving.result()
        sending = Beside(lambda: worker.send_bulk([b"whole"]))
        assert device.receive_bulk(memoryview(bytearray(9000))) == 5 == sending.result()


def test_an_object_longer_than_agreed_ends_the_session() -> None:
    with two_links() as (_, worker, device):
        sending = Beside(lambda: worker.send_bulk([bytes(9000)]))
        assert broken(Beside(lambda: device.receive_bulk(memoryview(bytearray(5000))))) is Reason.PROTOCOL
        assert broken(sending) is Reason.PEER


@pytest.mark.parametrize("direct", DIRECT)
def test_keys_change_at_the_agreed_record_and_never_come_back(direct: bool) -> None:
    with two_links(per_key=3, direct=direct) as (_, worker, device):
        for index in range(20):
            worker.send(bytes((index,)))
            assert device.receive()[1] == bytes((index,))
        into = memoryview(bytearray(10_240))
        receiving = Beside(lambda: device.receive_bulk(into))
        worker.send_bulk([bytes(10_240)])
        assert receiving.result() == 10_240
        assert worker.statistics().generations == 6 + 3 == device.statistics().generations


def test_ends_that_disagree_on_the_limit_break() -> None:
    with two_ends() as (_, one, other), link_over(one, per_key=2) as worker:
        device = link_over(other)
        for _ in range(2):
            worker.send(b"x")
            device.receive()
        worker.send(b"x")
        assert broken(Beside(device.receive)) is Reason.TAG


def test_a_key_protects_fewer_than_2_to_32_records_and_at_most_2_to_38_blocks() -> None:
    for geometry in (Geometry(), SMALL, Geometry(bulk_slots=2, bulk_bytes=2 << 20)):
        for which in Class:
            limit = records_per_key(geometry, which)
            assert 0 < limit < 2**32
            assert limit * (geometry.capacity(which) // 16 + 1) <= MAX_BLOCKS


@pytest.mark.parametrize("other", [{"secret": bytes(48)}, {"session": SESSION + 1}])
def test_another_secret_or_session_opens_nothing(other: dict[str, object]) -> None:
    with two_ends() as (_, one, two), link_over(one) as worker:
        device = Link(two, **{"secret": MASTER, "session": SESSION, "kinds": ANY, **other})  # type: ignore[arg-type]
        worker.send(b"secret")
        assert broken(Beside(device.receive)) is Reason.TAG


def test_what_one_end_sends_it_cannot_be_made_to_receive() -> None:
    """Direction and class are in key and associated data: a reflected record does not open."""
    with two_links() as (bus, worker, _device):
        worker.send(b"mine")
        size = 16 + 256 + 16
        start = bus.geometry.ring_at(worker._end.side, Class.CONTROL)
        back = bus.geometry.ring_at(worker._end.side.other, Class.CONTROL)
        bus.memory[back : back + size] = bus.memory[start : start + size]
        assert broken(Beside(worker.receive)) is Reason.TAG


def test_the_first_bad_tag_ends_it_for_good_and_the_other_end_learns() -> None:
    with two_links() as (bus, worker, device):
        worker.send(b"to be flipped")
        start = bus.geometry.ring_at(worker._end.side, Class.CONTROL)
        bus.memory[start + 16] ^= 1
        waiting = Beside(lambda: worker.receive(timeout=10.0))
        assert broken(Beside(device.receive)) is Reason.TAG
        assert broken(waiting) is Reason.PEER
        for call in (
            device.receive,
            lambda: device.send(b"x"),
            lambda: device.send(bytes(1000)),
            lambda: device.send_spdm(b"x"),
            lambda: device.exchange_spdm(b"x"),
            lambda: device.send_bulk([b"x"]),
            lambda: device.receive_bulk(memoryview(bytearray(1))),
        ):
            assert broken(Beside(call)) is Reason.TAG
        assert device.statistics().broken is Reason.TAG
        with pytest.raises(LinkBroken):
            device._secrets.key(worker._end.side, Class.CONTROL)


def test_a_session_closed_in_good_order_says_so() -> None:
    with two_links() as (_, worker, device):
        worker.send(b"last")
        worker.close()
        worker.close()
        assert device.receive()[1] == b"last"
        assert broken(Beside(device.receive)) is Reason.CLOSED
        assert broken(Beside(worker.receive)) is Reason.CLOSED


def test_closing_does_not_wait_for_a_sender_that_is_stuck() -> None:
    with two_links() as (_, worker, _device):
        stuck = Beside(lambda: [worker.send(b"x", timeout=10.0) for _ in range(9)])
        while worker.statistics().control_sent < SMALL.control_slots:
            time.sleep(0.001)
        begin = time.monotonic()
        worker.close()
        assert time.monotonic() - begin < 3.0
        assert broken(stuck) is Reason.CLOSED


def test_after_a_broken_session_both_ends_meet_again() -> None:
    with two_ends() as (_, one, other):
        for round_ in range(3):
            worker, device = link_over(one), link_over(other)
            worker.send(bytes((round_,)))
            assert device.receive()[1] == bytes((round_,))
            (worker if round_ % 2 else device).close()
            meet(one, other)


def test_a_link_that_died_late_leaves_its_successor_alone() -> None:
    with two_ends() as (_, one, other):
        old = link_over(one)
        meet(one, other)
        worker, device = link_over(one), link_over(other)
        old.close()
        worker.send(b"still here")
        assert device.receive()[1] == b"still here"


def test_an_end_carries_one_session_at_a_time() -> None:
    """Two sealers under one secret would use every nonce twice."""
    with two_ends() as (_, one, other):
        with link_over(one), pytest.raises(ValueError, match="already"):
            link_over(one)
        assert broken(Beside(lambda: link_over(one))) is Reason.PEER  # closed: not attached any more
        meet(one, other)
        with link_over(one) as worker, link_over(other) as device:
            worker.send(b"x")
            assert device.receive()[1] == b"x"


def test_deadlines_between_messages_leave_the_session_and_within_one_end_it() -> None:
    with two_links() as (_, worker, device):
        with pytest.raises(LinkTimeout):
            worker.receive(timeout=0.02)
        with pytest.raises(LinkTimeout):
            worker.receive_bulk(memoryview(bytearray(10)), timeout=0.02)
        for _ in range(SMALL.control_slots):
            worker.send(b"x")
        with pytest.raises(LinkTimeout):
            worker.send(b"x", timeout=0.02)
        for _ in range(SMALL.control_slots):
            device.receive()
        worker.send(b"alive")
        assert device.receive()[1] == b"alive"
        assert broken(Beside(lambda: worker.send(bytes(256 * 9), timeout=0.02))) is Reason.DEADLINE
    with two_links() as (_, worker, _device):
        assert broken(Beside(lambda: worker.send_bulk([bytes(9000)], timeout=0.02))) is Reason.DEADLINE


def test_many_threads_share_an_end_and_no_counter_is_used_twice() -> None:
    with two_links(ROOMY, per_key=50) as (_, worker, device):
        threads = [
            threading.Thread(target=lambda i=i: [worker.send(bytes((i, n))) for n in range(100)])
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        received = [device.receive()[1] for _ in range(400)]
        for thread in threads:
            thread.join()
        for i in range(4):
            assert [data[1] for data in received if data[0] == i] == list(range(100))


def test_nothing_shows_what_crossed() -> None:
    with two_links() as (_, worker, device):
        worker.send(b"secret words")
        assert device.receive()[1] == b"secret words"
        for shown in (repr(worker), repr(worker.statistics()), repr(worker._secrets), repr(worker._sealers)):
            assert "secret words" not in shown and MASTER.hex() not in shown


def test_the_master_secret_has_48_bytes() -> None:
    with two_ends() as (_, one, _other), pytest.raises(ValueError, match="48 bytes"):
        Link(one, bytes(32), SESSION, kinds=ANY)


def test_a_session_that_is_over_leaves_nothing_open() -> None:
    before = settled()
    for _ in range(3):
        with two_links() as (_, worker, device):
            for _ in range(3):
                worker.send(b"x")
                device.receive()
    assert held() <= before
