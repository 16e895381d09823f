"""What a host can do with the GPU itself and with SPDM (THREAT_MODEL.md, rows G20 to G24)."""

import tracemalloc
from collections.abc import Callable

import pytest

from enclave.engine.interface import DeviceLost, EngineOptions, TokenEvent
from enclave.gpu.device.attested import attest
from enclave.gpu.device.firmware import responder
from enclave.gpu.device.keeper import DeviceUnavailable
from enclave.gpu.spdm import (
    DeviceRefused,
    Evidence,
    Identity,
    Responder,
    SignatureRefused,
    SpdmError,
)
from enclave.identity import Identity as Keys
from enclave.simulator.gpu import GpuIdentity, Mode
from tests.enclave.simulation import gpu
from tests.gpu.device.bench import MemoryFiles, bench, request, run_out, until

NONCE = bytes(range(32))
ERROR = 0x7F


@pytest.mark.parametrize("mode", [Mode.DEBUG, Mode.OFF, "other firmware"])
def test_g20_a_device_in_the_wrong_state_gets_no_keys_and_no_weights(mode: Mode | str) -> None:
    wrong = gpu(mode=mode) if isinstance(mode, Mode) else gpu(code=b"\xee" * 48)
    with bench(identity=wrong, connect=False) as made:
        with pytest.raises(DeviceUnavailable, match=r"the device was refused: nvidia\."):
            made.keeper.connect()
        with pytest.raises(DeviceLost):
            made.engine.load_model(MemoryFiles(), EngineOptions())
        assert not made.engines


def test_g21_a_swapped_device_is_noticed_judged_and_changes_keys_and_session() -> None:
    keys, told = Keys(), list[str]()
    before = keys.keyset_bytes
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        session, report = made.keeper.session, made.keeper.report(NONCE)
        made.keeper.watch(keys.renew, told.append)
        made.restart(gpu(seed=bytes(32)))
        until(lambda: bool(told))
        assert told[0] not in ("", session)
        assert made.keeper.report(NONCE).chain != report.chain
    assert keys.keyset_bytes != before and keys.keyset_of(before) is None
    keys.erase()


def other_leaf(genuine: GpuIdentity, other: GpuIdentity) -> Responder:
    """The chain of one device, the signatures of another."""
    device = responder(genuine)
    device.identity = Identity(device.identity.chains, lambda slot, message: other.sign(message))
    return device


def evidence_of_another(genuine: GpuIdentity, other: GpuIdentity) -> Responder:
    """One device's session; the measurements it gives are signed by another."""
    device = responder(other)

    def sign(slot: int, message: bytes) -> bytes:
        return (genuine if message[:2] == b"\x11\xe0" else other).sign(message)

    device.identity = Identity(device.identity.chains, sign)
    return device


@pytest.mark.parametrize("relay", [other_leaf, evidence_of_another])
def test_g22_evidence_and_keys_come_from_one_leaf(
    relay: Callable[[GpuIdentity, GpuIdentity], Responder],
) -> None:
    device = relay(gpu(), gpu(seed=bytes(32)))
    with pytest.raises((SignatureRefused, DeviceRefused)):
        attest(device.respond, lambda evidence: True)


def spoken() -> list[bytes]:
    """Every packet of one attestation, both ways."""
    device, packets = responder(gpu()), list[bytes]()

    def exchange(packet: bytes) -> bytes:
        packets.extend((packet, device.respond(packet)))
        return packets[-1]

    attest(exchange, lambda evidence: True)
    return packets


ASKING_FOR_CERTIFICATES = range(6, 10)
"""GET_DIGESTS to CERTIFICATE: reserved bytes of these are under no signature; what they bring is."""


@pytest.mark.parametrize("turn", range(len(spoken())))
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 1.0])
def test_g23_an_altered_packet_yields_no_session(turn: int, place: float) -> None:
    """One bit of one packet of an attestation; where none of it mattered, the session is the genuine one."""
    identity = gpu()
    device, count = responder(identity), iter(range(1000))

    def altered(packet: bytes) -> bytes:
        if next(count) != turn:
            return packet
        position = int(place * (len(packet) - 1))
        return packet[:position] + bytes((packet[position] ^ 1,)) + packet[position + 1 :]

    judged: list[Evidence] = []
    try:
        session = attest(
            lambda packet: altered(device.respond(altered(packet))), lambda e: not judged.append(e)
        )
    except SpdmError:
        return
    assert turn in ASKING_FOR_CERTIFICATES
    (channel,) = device.sessions.values()
    assert session.export_master_secret() == channel.export_master_secret
    assert judged[0].chain.pem == identity.chain


@pytest.mark.parametrize("before", [range(0, 8, 2), range(0, 6, 2)])
def test_g23_questions_that_never_end_do_not_fill_a_devices_memory(before: range) -> None:
    """What is asked before a session is kept until it is signed; who asks for ever is refused some time."""
    device, packets = responder(gpu()), spoken()
    for turn in before:
        device.respond(packets[turn])
    again = packets[before.stop]
    assert device.respond(again)[2] != ERROR
    tracemalloc.start()
    try:
        refused = next((at for at in range(20_000) if device.respond(again)[2] == ERROR), None)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused is not None and kept < 8 << 20
    assert device.respond(packets[0])[2] != ERROR  # and then it begins anew


def test_g23_a_replayed_attestation_yields_no_session() -> None:
    packets = spoken()
    answers = iter(packets[1::2])
    with pytest.raises(SpdmError):
        attest(lambda packet: next(answers), lambda evidence: True)


def test_g24_a_device_that_dies_yields_errors_and_no_token() -> None:
    with bench(deadline=0.4) as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        for name, die in (("killed", made.pull_out), ("stopped", lambda: None)):
            if name == "stopped":
                made.plug_in(gpu())
                made.keeper.connect()
                made.engine.load_model(MemoryFiles(), EngineOptions())
                made.engines[-1].stuck_now = True
            made.engine.submit(request(name))
            die()
            events = run_out(made.engine)
            assert [(event.id, isinstance(event, TokenEvent) and event.token) for event in events] == [
                (name, None)
            ]
            with pytest.raises(DeviceLost):
                made.engine.submit(request("next"))
