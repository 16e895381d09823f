"""What a host can do to the link between worker and device (THREAT_MODEL.md, rows G1 to G13)."""

import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from enclave.gpu.bus import Bus, BusEnd, Descriptors, LinkBroken, LinkError, LinkTimeout, Reason, Side
from enclave.gpu.bus.geometry import Class
from enclave.gpu.link import Kind, Link, SpdmPort, TransferAborted
from enclave.gpu.link.kinds import SHIFT, word
from enclave.gpu.link.watch import Recorder, Watcher, windows
from tests.gpu.link.adversary import Attack, Carried, delayed, in_the_middle
from tests.gpu.pairs import MASTER, SMALL, Beside, link_over, meet, two_ends, two_links

SHORT, LONG = b"token ids of one step", os.urandom(600)
OBJECT, LOST = os.urandom(2500), b"an adapter that is given up"
CONTROL_RECORDS, BULK_RECORDS = 6, 6
"""SHORT; LONG in three; SHORT; farewell. OBJECT in three and its end; LOST and that it is void."""
SENDERS, RINGS = list(Side), list(Class)


def say(link: Link) -> None:
    """Everything that crosses a control ring under a key."""
    for message in (SHORT, LONG, SHORT):
        link.send(message)
    link.close()


def hear(link: Link, heard: list[Any]) -> None:
    """Take whatever comes, up to the farewell."""
    while True:
        try:
            heard.append(link.receive()[1])
        except LinkBroken as over:
            if over.reason is not Reason.CLOSED:
                raise
            heard.append(over.reason)
            return


def load(link: Link) -> None:
    """Everything that crosses a bulk ring."""

    def given_up() -> Any:
        yield LOST
        raise KeyError

    link.send_bulk([OBJECT])
    with suppress(KeyError):
        link.send_bulk(given_up())


def store(link: Link, stored: list[Any]) -> None:
    """Take it."""
    room = memoryview(bytearray(4096))
    size = link.receive_bulk(room)
    stored.append(bytes(room[:size]))
    try:
        link.receive_bulk(room)
    except TransferAborted as void:
        stored.append(type(void))


EXPECTED = {
    Class.CONTROL: [SHORT, LONG, SHORT, Reason.CLOSED],
    Class.BULK: [OBJECT, TransferAborted],
}


def converse(sender: Side, ring: Class, attack: Attack) -> tuple[list[Any], BaseException | None, float]:
    """One conversation with one ring attacked: what was taken for true, how it ended, seconds."""
    taken: list[Any] = []
    with in_the_middle({(sender, ring): attack}) as middle:
        ends = (middle.worker, middle.device)
        here, there = ends[sender], ends[sender.other]
        begin = time.monotonic()
        speak, listen = (say, hear) if ring is Class.CONTROL else (load, store)
        speaking, error = Beside(lambda: speak(here)), None
        try:
            Beside(lambda: listen(there, taken)).result(10.0)
        except LinkError as failed:
            error = failed
        with suppress(LinkError):
            speaking.result(10.0)
        return taken, error, time.monotonic() - begin


def refused(sender: Side, ring: Class, attack: Attack) -> None:
    """The attack is an error with a name within the deadline; nothing wrong, and nothing twice, was taken."""
    taken, error, seconds = converse(sender, ring, attack)
    assert taken == EXPECTED[ring][: len(taken)]
    if len(taken) < len(EXPECTED[ring]):
        assert isinstance(error, LinkBroken | LinkTimeout)
    assert seconds < 5.0


def at(place: int, change: Callable[[Carried], list[Carried]]) -> Attack:
    """Do this to one record, and nothing to the others."""
    return lambda number, record: change(record) if number == place else [record]


def everywhere(check: Callable[[Side, Class, int], None]) -> None:
    """In both directions, in either ring, at every record: each type of message is one of them."""
    for sender in SENDERS:
        for ring, count in ((Class.CONTROL, CONTROL_RECORDS), (Class.BULK, BULK_RECORDS)):
            for place in range(count):
                check(sender, ring, place)


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("ring", RINGS)
def test_without_an_attack_everything_arrives(sender: Side, ring: Class) -> None:
    """The control of all that follows."""
    taken, error, _ = converse(sender, ring, lambda _, record: [record])
    assert taken == EXPECTED[ring] and error is None


def test_g1_what_crosses_shows_nothing_of_what_it_is() -> None:
    weights, prompt = os.urandom(64) * 40, b"the prompt as token ids, if one could read them here"
    with two_links() as (bus, worker, device), Recorder(Watcher(bus.memory)) as recorder:
        receiving = Beside(lambda: device.receive_bulk(memoryview(bytearray(4096))))
        worker.send_bulk([weights])
        receiving.result()
        for _ in range(20):
            worker.send(prompt)
            assert device.receive()[1] == prompt
        device.send_spdm(b"bytes that nobody protects")  # the control: these are found
        time.sleep(0.05)
        everything = [bytes(bus.memory)]
        assert not windows(weights, everything) and not windows(prompt, everything)
        assert windows(b"bytes that nobody protects", everything)
    assert recorder.total[Side.WORKER, Class.CONTROL, "message"] > 0
    sizes = {one.length for one in recorder.seen if one.kind == "message"}
    assert sizes == {len(prompt)}


@pytest.mark.parametrize("place", [0, 7, -1])
def test_g2_a_flipped_bit_is_refused_in_every_record(place: int) -> None:
    everywhere(lambda s, r, n: refused(s, r, at(n, lambda record: [record.flipped(place)])))


def test_g3_a_record_that_is_delivered_twice_is_refused() -> None:
    everywhere(lambda s, r, n: refused(s, r, at(n, lambda record: [record, record])))


def test_g3_an_old_record_in_the_place_of_a_new_one_is_refused() -> None:
    def check(sender: Side, ring: Class, place: int) -> None:
        old: list[Carried] = []

        def attack(number: int, record: Carried) -> list[Carried]:
            old.append(record)
            return [old[0]] if number == place else [record]

        if place:
            refused(sender, ring, attack)

    everywhere(check)


def test_g4_records_in_another_order_are_refused() -> None:
    def check(sender: Side, ring: Class, place: int) -> None:
        held: list[Carried] = []

        def attack(number: int, record: Carried) -> list[Carried]:
            if number == place:
                held.append(record)
                return []
            return [record, *[held.pop() for _ in held]]

        refused(sender, ring, attack)

    everywhere(check)


def test_g5_a_record_that_is_dropped_is_noticed() -> None:
    everywhere(lambda s, r, n: refused(s, r, at(n, lambda _: [])))


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("place", [0, 2, 5])
def test_g6_a_transfer_that_stops_is_a_deadline_and_never_looks_whole(
    sender: Side, ring: Class, place: int
) -> None:
    taken, error, seconds = converse(sender, ring, lambda n, record: [record] if n < place else [])
    assert taken == EXPECTED[ring][: len(taken)] and len(taken) < len(EXPECTED[ring])
    assert isinstance(error, LinkTimeout | LinkBroken) and seconds < 5.0


@pytest.mark.parametrize("ring", RINGS)
def test_g7_a_delay_within_the_deadline_changes_nothing(ring: Class) -> None:
    taken, error, _ = converse(Side.WORKER, ring, delayed(0.02))
    assert taken == EXPECTED[ring] and error is None


def test_g7_unprotected_parts_that_trickle_in_do_not_stretch_a_deadline() -> None:
    """SPDM's records have no tag: the host makes as many as he likes, each just before a wait would end."""
    with two_ends() as (_, one, two), link_over(one) as worker:
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.05):
                with two.control_out:
                    two.control_out.reserve(1.0)[:1] = b"?"
                    two.control_out.publish(word(Kind.SPDM_MORE, 1))

        trickling = Beside(trickle)
        waits: list[Callable[[], Any]] = [
            lambda: worker.receive(timeout=0.2),
            lambda: worker.exchange_spdm(b"request", timeout=0.2),
            lambda: SpdmPort(one).receive(timeout=0.2),
        ]
        try:
            for wait in waits:
                begin = time.monotonic()
                with pytest.raises(LinkTimeout):
                    Beside(wait).result(5.0)
                assert time.monotonic() - begin < 2.0
        finally:
            stop.set()
            trickling.result()


def recorded(sender: Side, ring: Class, secret: bytes) -> list[Carried]:
    """What crosses in such a conversation under this secret."""
    with in_the_middle({}, secret=secret) as middle:
        ends = (middle.worker, middle.device)
        speak, listen = (say, hear) if ring is Class.CONTROL else (load, store)
        speaking = Beside(lambda: speak(ends[sender]))
        listen(ends[sender.other], [])
        speaking.result()
        return list(middle.carriers[sender, ring].seen)


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("ring", RINGS)
def test_g8_records_of_another_session_direction_or_ring_are_refused(sender: Side, ring: Class) -> None:
    """Each foreign record was genuine where it came from, at the very place where it is put now."""
    another = Class.BULK if ring is Class.CONTROL else Class.CONTROL
    for foreign in (
        recorded(sender, ring, os.urandom(48)),
        recorded(sender.other, ring, MASTER),
        recorded(sender, another, MASTER),
    ):
        for place, record in enumerate(foreign[:6]):
            refused(sender, ring, at(place, lambda own, record=record: [Carried(own.word, record.payload)]))
            refused(sender, ring, at(place, lambda _, record=record: [record]))


def test_g9_a_host_that_writes_while_a_record_is_worked_on_is_refused() -> None:
    """test_loads.py does it at full speed; here: every byte of a record that waits to be opened."""
    with two_ends() as (bus, one, two):
        for offset in range(len(SHORT) + 16):
            worker, device = link_over(one), link_over(two)
            worker.send(SHORT)
            bus.memory[SMALL.ring_at(Side.WORKER, Class.CONTROL) + 16 + offset] ^= 1
            with pytest.raises(LinkBroken) as caught:
                device.receive()
            assert caught.value.reason is Reason.TAG
            meet(one, two)


def test_g10_a_header_that_lies_is_refused() -> None:
    """Length and kind are authenticated, and bounded before anything is read."""
    changes = [
        lambda word: word - 1,
        lambda word: word + 1,
        lambda word: word ^ (1 << SHIFT),
        lambda word: word | 0x3FFFFF,
        lambda word: word & ~0x3FFFFF,
        lambda word: (word & 0x3FFFFF) | 15 << SHIFT,
    ]

    def check(sender: Side, ring: Class, place: int) -> None:
        for change in changes:
            refused(sender, ring, at(place, lambda r, c=change: [Carried(c(r.word) & 0x3FFFFFF, r.payload)]))

    for sender in SENDERS:
        for ring in RINGS:
            for place in (0, 3):
                check(sender, ring, place)


@pytest.mark.parametrize("seed", range(6))
def test_g11_scribbling_over_the_whole_memory_gives_named_errors_and_no_hang(seed: int) -> None:
    chance = random.Random(seed)
    heard: list[Any] = []
    with two_links(timeout=0.2) as (bus, worker, device):
        speaking = Beside(lambda: [worker.send(SHORT) for _ in range(2000)])

        def listen() -> None:
            while True:
                heard.append(device.receive()[1])

        listening = Beside(listen)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            place = chance.choice([chance.randrange(3 * 4096), chance.randrange(bus.geometry.size)])
            bus.memory[place] = chance.randrange(256)
        with pytest.raises(LinkError):
            listening.result(5.0)
        with suppress(LinkError):
            speaking.result(5.0)
    assert set(heard) <= {SHORT}


def test_g11_bells_that_never_ring_or_always_do_cost_time_only() -> None:
    for silent in (True, False):
        bells = tuple(os.eventfd(0, os.EFD_NONBLOCK) for _ in range(8))
        with Bus.create(SMALL) as bus:
            theirs = Descriptors(bus.descriptors.memory, bells)
            with (
                BusEnd(theirs, Side.WORKER, SMALL) as one,
                BusEnd(bus.descriptors, Side.DEVICE, SMALL) as two,
            ):
                meet(one, two)
                worker, device = link_over(one), link_over(two)
                hearing = Beside(device.receive)
                time.sleep(0.02)
                if not silent:
                    for bell in (*bells, *bus.descriptors.bells):
                        os.eventfd_write(bell, 2**63)
                worker.send(SHORT)
                assert hearing.result(2.0) == (Kind.MESSAGE, SHORT)
        for bell in bells:
            os.close(bell)


def test_g11_bells_that_block_whoever_rings_them_hold_nobody_up() -> None:
    with Bus.create(SMALL) as bus:
        jammed = tuple(os.eventfd(0) for _ in bus.descriptors.bells)
        for bell in jammed:
            os.eventfd_write(bell, 2**64 - 2)
        theirs = Descriptors(bus.descriptors.memory, jammed)
        with BusEnd(theirs, Side.WORKER, SMALL) as one, BusEnd(theirs, Side.DEVICE, SMALL) as two:
            Beside(lambda: meet(one, two)).result(5.0)
            worker, device = link_over(one), link_over(two)
            hearing = Beside(device.receive)
            time.sleep(0.02)
            Beside(lambda: worker.send(SHORT)).result(5.0)
            assert hearing.result(2.0) == (Kind.MESSAGE, SHORT)
        for bell in jammed:
            os.close(bell)


def test_g11_doorbells_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    with Bus.create(SMALL) as bus, open(tmp_path / "file", "wb") as file:
        for wrong in (1 << 20, file.fileno()):
            theirs = Descriptors(bus.descriptors.memory, (wrong,) * 8)
            with pytest.raises(LinkBroken) as caught:
                BusEnd(theirs, Side.WORKER, SMALL)
            assert caught.value.reason is Reason.MEMORY


def test_g12_a_stale_bus_or_a_second_worker_ends_the_session_and_gives_nothing_away() -> None:
    with two_ends() as (bus, one, two):
        device, old = link_over(two), link_over(one)
        old.send(SHORT)
        assert device.receive()[1] == SHORT
        with BusEnd(bus.descriptors, Side.WORKER, SMALL) as again:
            attaching = Beside(lambda: again.attach(5.0))
            with pytest.raises(LinkBroken) as caught:
                device.receive(timeout=2.0)
            assert caught.value.reason is Reason.PEER
            two.attach(5.0)
            attaching.result()
            with pytest.raises(LinkError):
                old.receive(timeout=0.2)


def test_g13_spdm_bytes_from_the_host_do_not_disturb_a_session() -> None:
    """They are not protected here: they arrive as what they are, and the SPDM layer judges them."""
    with in_the_middle(
        {(Side.WORKER, Class.CONTROL): lambda _, record: [Carried(5, b"forged" + bytes(300)), record]}
    ) as middle:
        for _ in range(3):
            middle.worker.send(SHORT)
        heard = [middle.device.receive() for _ in range(6)]
    assert heard == [(Kind.SPDM, b"forge"), (Kind.MESSAGE, SHORT)] * 3
