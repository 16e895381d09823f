"""Ends meet, notice each other's death, wait without burning, and believe nothing that lies in the memory."""

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.gpu.bus import (
    Bus,
    BusEnd,
    Consumer,
    Descriptors,
    LinkBroken,
    LinkTimeout,
    Producer,
    Reason,
    Side,
)
from enclave.gpu.bus.geometry import Cell, Class, cell
from tests.descriptors import held, settled
from tests.gpu.pairs import SMALL, Beside, meet, two_ends


def put(ring: Producer, data: bytes, timeout: float = 5.0) -> None:
    with ring:
        ring.reserve(timeout)[: len(data)] = data
        ring.publish(len(data))


def get(ring: Consumer, timeout: float = 5.0) -> bytes:
    with ring:
        word, slot = ring.take(timeout)
        data = bytes(slot[:word])
        ring.free()
    return data


def test_records_cross_in_order_in_every_ring() -> None:
    with two_ends() as (_, worker, device):
        rings = [
            (worker.control_out, device.control_in),
            (device.control_out, worker.control_in),
            (worker.bulk_out, device.bulk_in),
            (device.bulk_out, worker.bulk_in),
        ]
        for number, (out, into) in enumerate(rings):
            sent = [bytes((number, index)) for index in range(23)]
            reading = Beside(lambda into=into: [get(into) for _ in range(23)])
            for data in sent:
                put(out, data)
            assert reading.result() == sent


def test_a_slow_reader_holds_the_writer_up_and_loses_nothing() -> None:
    with two_ends() as (_, worker, device):
        writing = Beside(lambda: [put(worker.control_out, bytes((index,))) for index in range(20)])
        received = []
        for _ in range(20):
            time.sleep(0.005)
            received.append(get(device.control_in))
        writing.result()
        assert received == [bytes((index,)) for index in range(20)]


def test_a_full_ring_is_a_timeout_and_nothing_is_overwritten() -> None:
    with two_ends() as (_, worker, device):
        for index in range(SMALL.control_slots):
            put(worker.control_out, bytes((index,)))
        with pytest.raises(LinkTimeout, match="nothing moved"):
            put(worker.control_out, b"x", timeout=0.05)
        assert [get(device.control_in) for _ in range(4)] == [bytes((i,)) for i in range(4)]
        put(worker.control_out, b"y")
        assert get(device.control_in) == b"y"


def test_an_empty_ring_is_a_timeout() -> None:
    with two_ends() as (_, worker, _device), pytest.raises(LinkTimeout):
        get(worker.control_in, timeout=0.05)


def test_waiting_costs_no_processor() -> None:
    with two_ends() as (_, worker, _device):
        before = time.thread_time()
        with pytest.raises(LinkTimeout):
            get(worker.control_in, timeout=0.5)
        assert time.thread_time() - before < 0.1


def test_nobody_there_is_a_timeout() -> None:
    with Bus.create(SMALL) as bus, BusEnd(bus.descriptors, Side.WORKER, SMALL) as worker:
        with pytest.raises(LinkTimeout, match="no device attached"):
            worker.attach(0.05)
        with pytest.raises(LinkBroken) as caught:
            get(worker.control_in)
        assert caught.value.reason is Reason.PEER


def test_an_end_that_leaves_is_noticed_while_waited_for() -> None:
    with two_ends() as (_, worker, device):
        waiting = Beside(lambda: get(worker.control_in, timeout=10.0))
        device.detach()
        with pytest.raises(LinkBroken) as caught:
            waiting.result(2.0)
        assert caught.value.reason is Reason.PEER


def test_a_killed_process_is_noticed_when_the_host_says_so() -> None:
    with two_ends() as (bus, worker, _device):
        waiting = Beside(lambda: get(worker.control_in, timeout=10.0))
        bus.unplug(Side.DEVICE)
        with pytest.raises(LinkBroken) as caught:
            waiting.result(2.0)
        assert caught.value.reason is Reason.PEER


def test_what_was_sent_before_leaving_still_arrives() -> None:
    with two_ends() as (_, worker, device):
        put(device.control_out, b"last words")
        device.detach()
        assert get(worker.control_in) == b"last words"


def test_a_worker_that_restarts_over_a_stale_bus_meets_the_device_again() -> None:
    with two_ends() as (bus, worker, device):
        for index in range(2):
            put(worker.control_out, bytes((index,)))
            put(device.bulk_out, bytes((index,)))
        with BusEnd(bus.descriptors, Side.WORKER, SMALL) as second:  # the first is not even closed
            with pytest.raises(LinkBroken):
                for _ in range(4):
                    get(device.control_in)
            meet(second, device)
            put(second.control_out, b"new")
            assert get(device.control_in) == b"new"
            with pytest.raises(LinkTimeout):
                get(second.bulk_in, timeout=0.02)
            with pytest.raises(LinkBroken):
                worker.check()


def test_attaching_again_ends_what_a_thread_still_waits_for() -> None:
    with two_ends() as (_, worker, device):
        waiting = Beside(lambda: get(worker.control_in, timeout=10.0))
        time.sleep(0.02)
        meet(worker, device)
        with pytest.raises(LinkBroken):
            waiting.result(2.0)


def test_two_workers_beside_each_other_do_not_meet() -> None:
    with two_ends() as (_, one, its), two_ends() as (_, two, other):
        put(one.control_out, b"one")
        put(two.control_out, b"two")
        assert (get(its.control_in), get(other.control_in)) == (b"one", b"two")


def test_two_workers_on_one_bus_get_errors_not_each_others_records() -> None:
    with two_ends() as (bus, worker, device), BusEnd(bus.descriptors, Side.WORKER, SMALL) as intruder:
        attaching = Beside(lambda: intruder.attach(0.3))
        time.sleep(0.05)
        with pytest.raises(LinkBroken):
            device.check()
        with pytest.raises(LinkTimeout):
            attaching.result()
        device.detach()
        with pytest.raises(LinkBroken):
            get(worker.control_in, timeout=1.0)


@pytest.mark.parametrize("ring", list(Class))
@pytest.mark.parametrize("value", [0, 1, 100, 2**63, 2**64 - 1])
def test_a_tail_that_the_host_writes_ends_the_session_or_looks_like_a_full_ring(
    ring: Class, value: int
) -> None:
    with two_ends() as (bus, worker, device):
        out = worker.control_out if ring is Class.CONTROL else worker.bulk_out
        into = device.control_in if ring is Class.CONTROL else device.bulk_in
        for _ in range(6):
            put(out, b"x")
            get(into)
        bus.words[cell(Side.DEVICE, Cell.TAIL, ring)] = value
        with pytest.raises((LinkBroken, LinkTimeout)) as stopped:
            for _ in range(10):
                put(out, b"x", timeout=0.05)
        assert value < 2 or isinstance(stopped.value, LinkBroken)
        assert getattr(stopped.value, "reason", Reason.INDEX) is Reason.INDEX


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_header_of_another_lap_is_no_record_yet(header: int) -> None:
    with two_ends() as (bus, _worker, device):
        bus.memory.cast("I")[SMALL.ring_at(Side.WORKER, Class.CONTROL) // 4] = header
        with device.control_in:
            if header >> 26 == 1:
                word, slot = device.control_in.take(0.0)
                assert word == header & (1 << 26) - 1 and len(slot) == 256 + 16
            else:
                with pytest.raises(LinkTimeout):
                    device.control_in.take(0.0)


def test_laps_go_round_and_nothing_is_lost() -> None:
    with two_ends() as (_, worker, device):
        for index in range(SMALL.bulk_slots * 40):
            put(worker.bulk_out, bytes((index,)))
            assert get(device.bulk_in) == bytes((index,))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3 * 4096 // 8 - 1), st.integers(0, 2**64 - 1)), max_size=8))
def test_scribbling_on_the_pages_gives_named_errors_only(writes: list[tuple[int, int]]) -> None:
    with two_ends() as (bus, worker, device):
        words = bus.words
        put(worker.control_out, b"x")
        for place, value in writes:
            words[place] = value
        for _ in range(6):
            for action in (
                lambda: put(worker.control_out, b"x", timeout=0.01),
                lambda: put(device.bulk_out, b"x", timeout=0.01),
                lambda: get(device.control_in, timeout=0.01),
            ):
                with suppress(LinkBroken, LinkTimeout):
                    action()


def test_bells_that_the_host_swallows_cost_a_slice_and_no_record() -> None:
    with Bus.create(SMALL) as bus:
        silent = Descriptors(bus.descriptors.memory, tuple(os.eventfd(0, os.EFD_NONBLOCK) for _ in range(8)))
        with (
            BusEnd(bus.descriptors, Side.WORKER, SMALL) as worker,
            BusEnd(silent, Side.DEVICE, SMALL) as device,
        ):
            meet(worker, device)
            waiting = Beside(lambda: get(device.control_in, timeout=5.0))
            time.sleep(0.02)
            put(worker.control_out, b"quiet")
            assert waiting.result(2.0) == b"quiet"
        for bell in silent.bells:
            os.close(bell)


def test_bells_that_are_jammed_do_not_block() -> None:
    with two_ends() as (bus, worker, device):
        waiting = Beside(lambda: get(device.control_in, timeout=5.0))
        time.sleep(0.02)
        for bell in bus.descriptors.bells:
            if rung(bell):
                os.eventfd_read(bell)
            os.eventfd_write(bell, 2**64 - 2)
        put(worker.control_out, b"jammed")
        assert waiting.result(2.0) == b"jammed"


def rung(bell: int) -> int:
    text = Path(f"/proc/self/fdinfo/{bell}").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("eventfd-count")), 16)


def test_memory_of_another_size_or_that_can_shrink_is_refused(tmp_path: Path) -> None:
    with Bus.create(SMALL) as bus:
        short = os.memfd_create("x", os.MFD_ALLOW_SEALING)
        unsealable = os.memfd_create("x")
        os.ftruncate(unsealable, SMALL.size)
        plain = os.open(tmp_path / "bus", os.O_RDWR | os.O_CREAT)
        os.ftruncate(plain, SMALL.size)
        for number in (short, unsealable, plain):
            with pytest.raises(LinkBroken) as caught:
                BusEnd(Descriptors(number, bus.descriptors.bells), Side.WORKER, SMALL)
            assert caught.value.reason is Reason.MEMORY
            os.close(number)
        with pytest.raises(OSError):
            os.ftruncate(bus.descriptors.memory, 4096)


def test_descriptors_travel_as_numbers() -> None:
    with Bus.create(SMALL) as bus:
        assert Descriptors.of(bus.descriptors.numbers()) == bus.descriptors
        with pytest.raises(ValueError, match="8 doorbells"):
            Descriptors.of((1, 2))


def test_nothing_stays_open_when_an_end_is_closed() -> None:
    before = settled()
    for _ in range(3):
        with two_ends() as (_, worker, device):
            put(worker.control_out, b"x")
            get(device.control_in)
    assert held() <= before
