"""Any bytes: what parses encodes to the same bytes, and nothing but the named errors escapes."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from enclave.gpu.spdm import (
    CertificateChain,
    MalformedMessage,
    Mctp,
    PciDoe,
    RemoteProtocolError,
    SpdmError,
    Tcp,
)
from enclave.gpu.spdm.bindings import Binding
from enclave.gpu.spdm.doe import DataObject
from enclave.gpu.spdm.messages import ALL_MESSAGES, Expected, Message, decode
from enclave.gpu.spdm.opaque import elements, read_selected, read_supported
from enclave.gpu.spdm.secured import Direction
from tests.gpu.spdm.recordings import NAMES, Recording
from tests.gpu.spdm.world import World, device_keys, responder

EXPECTED = st.builds(Expected, signed=st.booleans(), summary=st.booleans(), verify_data=st.booleans())
BYTES = st.binary(max_size=400)


@pytest.mark.parametrize("kind", ALL_MESSAGES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_messages(kind: type[Message], data: st.DataObject) -> None:
    version = data.draw(st.sampled_from([0x10, 0x11, 0x12, 0x13]))
    parameters = data.draw(st.binary(min_size=2, max_size=2))
    sparse = st.lists(st.sampled_from([b"\0", b"\1", b"\2", b"\x30"]) | st.binary(max_size=40), max_size=60)
    body = data.draw(BYTES | sparse.map(b"".join))
    expected = data.draw(EXPECTED)
    raw = bytes((version, kind.CODE)) + parameters + body
    try:
        message = kind.from_bytes(raw, expected)
    except MalformedMessage:
        return
    assert message.to_bytes() == raw
    assert decode(raw, expected) == (message, raw)


@given(st.sampled_from(NAMES), st.data())
def test_recorded_messages_with_a_byte_changed(name: str, data: st.DataObject) -> None:
    recording = Recording.load(name)
    _record, _, exact = data.draw(st.sampled_from(recording.parsed[:30]))
    position = data.draw(st.integers(0, min(len(exact), 60) - 1))
    raw = bytearray(exact)
    raw[position] ^= data.draw(st.integers(1, 255))
    for expected in (Expected(), Expected(signed=True, summary=True, verify_data=not recording.clear)):
        try:
            message, again = decode(bytes(raw), expected)
        except MalformedMessage:
            continue
        assert message.to_bytes() == bytes(raw) == again


@given(BYTES)
@example(bytes.fromhex("0500"))
def test_bindings(raw: bytes) -> None:
    bindings: list[Binding] = [Mctp(), PciDoe(), Tcp()]
    for binding in bindings:
        try:
            packet = binding.unwrap(raw)
        except MalformedMessage:
            continue
        if not isinstance(binding, PciDoe) or not DataObject.from_bytes(raw).reserved:
            assert binding.wrap(packet) == raw
    with contextlib.suppress(MalformedMessage):
        assert DataObject.from_bytes(raw).to_bytes() == raw


@given(BYTES)
def test_chains(raw: bytes) -> None:
    framed = (len(raw) + 52).to_bytes(2, "little") + bytes(50) + raw
    for each in (raw, framed):
        with pytest.raises(MalformedMessage):
            CertificateChain.from_bytes(each)


@given(st.integers(52, 1200), st.integers(0, 255))
def test_a_chain_with_a_byte_changed(position: int, value: int) -> None:
    raw = bytearray(device_keys()[1].raw)
    raw[position % len(raw)] = value
    try:
        assert CertificateChain.from_bytes(bytes(raw)).raw == bytes(raw)
        _ = CertificateChain.from_bytes(bytes(raw)).leaf_key
    except MalformedMessage:
        pass


@given(st.sampled_from([0x11, 0x12]), BYTES)
def test_opaque_data(version: int, raw: bytes) -> None:
    for read in (elements, read_selected, read_supported):
        with contextlib.suppress(RemoteProtocolError):
            read(version, raw)


@given(st.sampled_from([0, 2]), BYTES)
def test_records(size: int, raw: bytes) -> None:
    direction = Direction(0x12, bytearray(48), raw[:4].ljust(4, b"\0"), size)
    with pytest.raises(SpdmError):
        direction.open(raw)
    assert direction.sequence == 0


@given(st.lists(BYTES, max_size=4))
def test_a_device_answers_whatever_it_is_sent(packets: list[bytes]) -> None:
    bindings: list[Binding] = [Mctp(), PciDoe(), Tcp()]
    for binding in bindings:
        device = responder(binding)
        for packet in packets:
            binding.unwrap(device.respond(packet))


@given(st.integers(0, 12), BYTES, st.booleans())
def test_a_requester_raises_named_errors_alone(turn: int, answer: bytes, framed: bool) -> None:
    world = World.of(Mctp())
    turns: list[int] = []

    def tamper(packet: bytes, answering: bool) -> bytes:
        if answering:
            turns.append(1)
        last = answering and len(turns) == turn + 1
        return ((packet[:5] if framed else b"") + answer) if last and answer else packet

    world.tamper = tamper
    with contextlib.suppress(SpdmError):
        world.session()
