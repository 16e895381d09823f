"""Ours against ours: both versions, every binding; what a session gives out and when; what ends it."""

import gc
import resource
from typing import Any
from unittest.mock import patch

import pytest

from attestation.nvidia import GpuReport
from enclave.gpu.spdm import (
    REQUESTER_FLAGS,
    RESPONDER_FLAGS,
    SPDM_11,
    SPDM_12,
    Binding,
    Capability,
    DeviceRefused,
    Evidence,
    LocalProtocolError,
    Mctp,
    PciDoe,
    PeerError,
    RemoteProtocolError,
    Requester,
    Responses,
    SecureChannel,
    Session,
    SessionLost,
    SignatureRefused,
    Tcp,
    UnverifiedSession,
    discover,
)
from enclave.gpu.spdm.bindings import Kind, Packet
from enclave.gpu.spdm.codes import ErrorCode
from enclave.gpu.spdm.messages import Error, GetDigests
from tests.gpu.spdm.world import NONCE, World, accepts, blocks, device_keys, responder

BINDINGS: list[Binding] = [Mctp(), PciDoe(), Tcp()]


@pytest.mark.parametrize("clear", [False, True], ids=["encrypted", "clear"])
@pytest.mark.parametrize("version", [SPDM_11, SPDM_12], ids=["1.1", "1.2"])
@pytest.mark.parametrize("binding", BINDINGS, ids=["mctp", "doe", "tcp"])
def test_a_whole_life(binding: Binding, version: int, clear: bool) -> None:
    flag = Capability.HANDSHAKE_IN_THE_CLEAR if clear else 0
    world = World.of(
        binding,
        versions=[version],
        flags=REQUESTER_FLAGS | flag,
        portion=100,
        device={"flags": RESPONDER_FLAGS | flag},
    )
    world.connected()
    assert world.requester.version == version
    world.run(world.requester.challenge())
    assert world.run(world.requester.get_measurements(0, signed=False))[0].param1 == 3
    assert world.run(world.requester.get_measurements(9, signed=False))[0].blocks == (blocks()[2],)
    unverified = world.run(world.requester.establish(0))
    session: Session = world.run(unverified.verify(accepts, NONCE))
    (channel,) = world.device.sessions.values()
    assert session.export_master_secret() == channel.export_master_secret
    world.run(session.heartbeat())
    for both in (True, False, True):
        world.run(session.update_keys(both=both))
    world.run(session.get_digests())
    assert world.run(session.get_certificate()).raw == device_keys()[1].raw
    assert session.export_master_secret() == channel.export_master_secret
    world.run(session.end())
    assert not session.alive and not world.device.sessions
    assert not any(channel._data.export if channel._data else b"\1")
    with pytest.raises(LocalProtocolError, match="no session"):
        session.export_master_secret()


def test_the_highest_common_version_is_spoken_and_1_1_can_be_asked_for() -> None:
    assert World.of(Mctp()).connected().requester.version == SPDM_12
    assert World.of(Mctp(), versions=[SPDM_11, SPDM_12]).connected().requester.version == SPDM_11
    assert World.of(Mctp(), device={"versions": [SPDM_11]}).connected().requester.version == SPDM_11


def test_no_common_version_is_refused() -> None:
    world = World.of(Mctp(), versions=[SPDM_12], device={"versions": [SPDM_11]})
    with pytest.raises(RemoteProtocolError, match=r"speaks SPDM 1\.1, we do not"):
        world.run(world.requester.connect())


def test_doe_discovery_lists_what_the_mailbox_speaks() -> None:
    world = World.of(PciDoe())
    assert world.run(discover()) == ((1, 0), (1, 1), (1, 2))


def test_in_session_measurements_in_1_1_are_nvidias_evidence_form() -> None:
    world = World.of(Mctp(), versions=[SPDM_11])
    evidence: Evidence = world.run(world.unverified().evidence(NONCE))
    report = GpuReport.from_bytes(evidence.report)
    assert report.request.nonce == NONCE and report.to_bytes() == evidence.report
    assert [block.index for block in report.measurements] == [1, 2, 9]


def test_an_unverified_session_gives_out_no_keys_and_carries_no_data() -> None:
    unverified = World.of(Mctp()).unverified()
    for name in ("export_master_secret", "exchange"):
        assert not hasattr(unverified, name) and hasattr(Session, name)


@pytest.mark.parametrize("answer", [False, None, 1, "accepted"])
def test_a_judge_that_does_not_say_true_refuses(answer: Any) -> None:
    world = World.of(Mctp())
    unverified = world.unverified()
    with pytest.raises(DeviceRefused, match="was refused"):
        world.run(unverified.verify(lambda evidence: answer))
    assert not unverified.alive and not world.requester.sessions


def test_a_judge_that_raises_refuses_with_its_reason() -> None:
    def judge(evidence: Evidence) -> bool:
        raise ValueError("old firmware")

    world = World.of(Mctp())
    unverified = world.unverified()
    with pytest.raises(DeviceRefused, match="old firmware"):
        world.run(unverified.verify(judge))
    with pytest.raises(LocalProtocolError, match="ended"):
        world.run(unverified.evidence())


def test_evidence_of_another_connection_verifies_no_session() -> None:
    here, there = World.of(Mctp()).unverified(), World.of(Mctp())
    foreign = there.run(there.unverified().evidence())
    with pytest.raises(DeviceRefused, match="another connection"):
        here.accept(foreign, accepts)


def test_two_sessions_beside_each_other_have_different_ids_and_keys() -> None:
    world = World.of(Mctp())
    first = world.session()
    second = world.run(world.run(world.requester.establish(0)).verify(accepts))
    assert first.id != second.id
    assert first.export_master_secret() != second.export_master_secret()
    world.run(first.end())
    assert world.run(second.exchange(b"\1abc")) == b"cba\1"


def test_application_data_crosses_and_is_refused_without_a_handler() -> None:
    world = World.of(Mctp())
    assert world.run(world.session().exchange(b"\1hello")) == b"olleh\1"
    other = World.of(Mctp(), device={"responses": Responses(measurements=blocks)})
    assert other.run(other.session().exchange(b"\1hello"))[1:3] == bytes((0x12, 0x7F))


def test_steps_out_of_turn_are_the_callers_fault_and_send_nothing() -> None:
    world = World.of(Mctp())
    for flow in (world.requester.get_capabilities(), world.requester.get_digests()):
        with pytest.raises(LocalProtocolError, match="out of turn"):
            world.run(flow)
    world.run(world.requester.connect())
    with pytest.raises(LocalProtocolError, match="get_certificate first"):
        world.run(world.requester.establish(0))
    assert len(world.sent) == 3


def test_a_device_answers_out_of_turn_requests_with_unexpected_request() -> None:
    device = responder()
    request = Mctp().wrap(Packet(Kind.MESSAGE, GetDigests(version=SPDM_12).to_bytes()))
    answer = Error.from_bytes(Mctp().unwrap(device.respond(request)).body)
    assert answer.param1 == ErrorCode.UNEXPECTED_REQUEST


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        ("0511e90000", ErrorCode.UNEXPECTED_REQUEST),
        ("0513810000", ErrorCode.VERSION_MISMATCH),
        ("0512fe0000", ErrorCode.UNSUPPORTED_REQUEST),
        ("0512", ErrorCode.INVALID_REQUEST),
        ("0600000000", ErrorCode.DECRYPT_ERROR),
        ("0511840000", ErrorCode.VERSION_MISMATCH),
        ("0512e0030100", ErrorCode.INVALID_REQUEST),
    ],
)
def test_a_device_names_the_error(packet: str, code: ErrorCode) -> None:
    world = World.of(Mctp()).connected()
    packet = packet.replace("0511e9", "0512e9")
    answer = Error.from_bytes(Mctp().unwrap(world.device.respond(bytes.fromhex(packet))).body)
    assert answer.param1 == code


def test_an_index_that_does_not_exist_is_an_error_and_the_connection_lives() -> None:
    world = World.of(Mctp()).connected()
    with pytest.raises(PeerError, match="INVALID_REQUEST") as caught:
        world.run(world.requester.get_measurements(77))
    assert caught.value.code == ErrorCode.INVALID_REQUEST
    assert world.run(world.requester.get_measurements(9))[1]


def test_a_busy_device_is_asked_again_with_growing_pauses() -> None:
    world = World.of(Mctp()).connected()
    busy = [Mctp().wrap(Packet(Kind.MESSAGE, Error(version=SPDM_12, param1=3).to_bytes()))] * 3
    respond = world.device.respond
    with patch.object(world.device, "respond", lambda packet: busy.pop() if busy else respond(packet)):
        world.run(world.requester.challenge())
    assert world.slept == [0.01, 0.02, 0.04]


def test_a_device_that_stays_busy_is_given_up() -> None:
    world = World.of(Mctp()).connected()
    busy = Mctp().wrap(Packet(Kind.MESSAGE, Error(version=SPDM_12, param1=3).to_bytes()))
    world.tamper = lambda packet, answering: busy if answering else packet
    with pytest.raises(PeerError, match="busy"):
        world.run(world.requester.get_digests())


def test_response_not_ready_is_awaited_and_asked_for() -> None:
    world = World.of(Mctp()).connected()
    held: list[bytes] = []

    def tamper(packet: bytes, answering: bool) -> bytes:
        if answering and not held:
            held.append(packet)
            error = Error(version=SPDM_12, param1=0x42, extended=bytes((20, 0x83, 7, 1)))
            return Mctp().wrap(Packet(Kind.MESSAGE, error.to_bytes()))
        return held[0] if answering else packet

    world.tamper = tamper
    world.run(world.requester.challenge())
    assert world.sent[-1].hex() == "0512ff8307"
    assert world.slept == [2**20 / 1e6]


@pytest.mark.parametrize("where", ["random", "signature", "verify data"])
def test_a_key_exchange_that_was_altered_is_refused(where: str) -> None:
    world = World.of(Mctp()).connected()
    offset = {"random": 12, "signature": -60, "verify data": -1}[where]

    def tamper(packet: bytes, answering: bool) -> bytes:
        if answering and packet[2] == 0x64:
            packet = bytearray(packet)  # type: ignore[assignment]
            packet[offset] ^= 1  # type: ignore[index]
        return bytes(packet)

    world.tamper = tamper
    with pytest.raises(SignatureRefused):
        world.run(world.requester.establish(0))
    assert not world.requester.sessions


def test_a_record_that_was_altered_ends_the_session_on_both_sides() -> None:
    world = World.of(Mctp())
    session = world.session()
    world.tamper = lambda packet, answering: packet if answering else packet[:-1] + bytes((packet[-1] ^ 1,))
    with pytest.raises(SessionLost, match="outside of the session"):
        world.run(session.heartbeat())
    assert not session.alive and not world.device.sessions
    with pytest.raises(LocalProtocolError, match="ended"):
        world.run(session.heartbeat())


def test_an_answer_that_was_altered_or_replayed_ends_the_session() -> None:
    for replay in (False, True):
        world = World.of(Mctp())
        session = world.session()
        answers: list[bytes] = []

        def tamper(
            packet: bytes, answering: bool, answers: list[bytes] = answers, again: bool = replay
        ) -> bytes:
            if not answering:
                return packet
            answers.append(packet)
            return answers[0] if again else packet[:-1] + bytes((packet[-1] ^ 1,))

        world.tamper = tamper
        with pytest.raises(SessionLost):
            world.run(session.heartbeat())
            world.run(session.heartbeat())
        assert not session.alive


def test_a_flow_that_is_broken_off_ends_its_session() -> None:
    world = World.of(Mctp())
    session = world.session()
    flow = session.heartbeat()
    next(flow)
    flow.close()
    assert not session.alive


def test_another_device_behind_the_same_digests_is_refused() -> None:
    world = World.of(Mctp())
    world.run(world.requester.connect())
    world.run(world.requester.get_digests())
    _key, chain = device_keys("another")
    world.device.identity = type(world.device.identity)({0: chain}, world.device.identity.sign)
    with pytest.raises(SignatureRefused, match="not the one that DIGESTS named"):
        world.run(world.requester.get_certificate())


def test_a_device_without_the_leafs_key_gets_no_session() -> None:
    world = World.of(Mctp())
    _, chain = device_keys("another")
    world.device.identity = type(world.device.identity)({0: chain}, world.device.identity.sign)
    with pytest.raises(SignatureRefused, match="KEY_EXCHANGE_RSP"):
        world.unverified()


def test_a_device_that_chooses_weaker_algorithms_is_refused() -> None:
    world = World.of(Mctp())

    def tamper(packet: bytes, answering: bool) -> bytes:
        return packet[:13] + b"\x10" + packet[14:] if answering and packet[2] == 0x63 else packet

    world.tamper = tamper
    with pytest.raises(RemoteProtocolError, match="did not choose our signature"):
        world.run(world.requester.connect())


def test_get_version_forgets_the_sessions_on_both_sides() -> None:
    world = World.of(Mctp())
    session = world.session()
    world.run(world.requester.connect())
    assert not session.alive and not world.device.sessions


def test_more_sessions_than_a_device_keeps_are_refused() -> None:
    world = World.of(Mctp()).connected()
    for _ in range(4):
        world.run(world.requester.establish(0))
    with pytest.raises(PeerError, match="SESSION_LIMIT"):
        world.run(world.requester.establish(0))


def test_secrets_do_not_show_in_representations() -> None:
    session = World.of(Mctp()).session()
    secret = session.export_master_secret().hex()
    assert secret not in repr(session) + repr(session._channel) + repr(vars(session._channel).keys())


def test_the_channel_of_a_device_gives_the_export_secret_only_while_it_lives() -> None:
    world = World.of(Mctp())
    session = world.session()
    channel: SecureChannel = next(iter(world.device.sessions.values()))
    world.run(session.end())
    with pytest.raises(LocalProtocolError):
        _ = channel.export_master_secret


def test_types_keep_the_order() -> None:
    assert not issubclass(UnverifiedSession, Session) and not issubclass(Session, UnverifiedSession)
    assert Requester.establish.__annotations__["return"] is not None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_set_ups_leave_nothing_behind() -> None:
    world = World.of(Mctp(), versions=[SPDM_11])
    for _ in range(200):
        world.run(world.session().end())
        world.sent.clear()
    gc.collect()
    objects, memory = len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10_000):
        world.run(world.session().end())
        world.sent.clear()
    gc.collect()
    assert not world.requester.sessions and not world.device.sessions
    assert len(gc.get_objects()) - objects < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 16 * 1024
