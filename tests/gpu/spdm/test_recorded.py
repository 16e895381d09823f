"""Ours against the recorded runs of DMTF's reference: byte for byte, in both roles, and every secret."""

import hashlib
from typing import Any

import pytest

from enclave.gpu.spdm import (
    MalformedMessage,
    Requester,
    Responder,
    SecureChannel,
    Session,
    UnverifiedSession,
    discover,
)
from enclave.gpu.spdm.bindings import Kind
from enclave.gpu.spdm.codes import Code, KeyOperation
from enclave.gpu.spdm.doe import DataObject
from enclave.gpu.spdm.messages import ALL_MESSAGES, Message, decode
from enclave.gpu.spdm.schedule import HandshakeSecrets, bin_concat, expand, extract, shared_secret
from enclave.gpu.spdm.secured import Direction
from enclave.gpu.spdm.transcript import SessionTranscript
from tests.gpu.spdm.recordings import NAMES, Recording, Replay, _private


@pytest.fixture(scope="module", params=NAMES)
def recording(request: pytest.FixtureRequest) -> Recording:
    return Recording.load(request.param)


def test_every_message_parses_and_encodes_to_the_same_bytes(recording: Recording) -> None:
    for record, message, _ in recording.parsed:
        assert message.CODE.name == record["code"]
        assert message.to_bytes().hex() == record["hex"]
        assert type(message).from_bytes(message.to_bytes(), _expected(recording, record)) == message


def test_every_kind_of_message_occurs_in_some_recording() -> None:
    seen = {type(message) for name in NAMES for _, message, _ in Recording.load(name).parsed}
    missing = {kind.__name__ for kind in ALL_MESSAGES if kind not in seen}
    assert missing == {"RespondIfReady"}


def test_every_packet_is_what_the_binding_makes_of_its_content(recording: Recording) -> None:
    for record in recording.messages:
        raw = bytes.fromhex(record["transport_hex"])
        if record["code"] == "DOE_DISCOVERY":
            assert DataObject.from_bytes(raw).to_bytes() == raw
            continue
        packet = recording.binding.unwrap(raw)
        assert packet.kind is (Kind.RECORD if record["secured"] else Kind.MESSAGE)
        assert recording.binding.wrap(packet) == raw
        content = record["record_hex"] if record["secured"] else record["hex"]
        assert packet.body.hex().startswith(content)


def test_a_message_that_is_cut_or_continued_is_malformed(recording: Recording) -> None:
    for record, message, exact in recording.parsed:
        if message.CODE is Code.ERROR:
            continue
        expected = _expected(recording, record)
        for wrong in (exact[:-1], exact + b"\0", exact[:3], b""):
            with pytest.raises(MalformedMessage):
                type(message).from_bytes(wrong, expected)


def test_the_requester_says_exactly_what_was_recorded(recording: Recording) -> None:
    requester = Requester(
        recording.binding,
        versions=[recording.version],
        flags=recording.flags("requester"),
        entropy=recording.entropy("requester"),
    )
    script = _Script(requester, Replay(recording), recording)
    script.run()
    assert script.finished
    assert script.exports == [each["export_master_secret_hex"] for each in recording.sessions]


def test_the_responder_answers_exactly_what_was_recorded(recording: Recording) -> None:
    responder = Responder(
        recording.binding,
        recording.identity(),
        recording.responses(),
        versions=[recording.version],
        flags=recording.flags("responder"),
        entropy=recording.entropy("responder"),
    )
    exports = []
    pairs = zip(recording.messages[::2], recording.messages[1::2], strict=True)
    for request, response in pairs:
        if request["code"] == "END_SESSION":
            exports += [each.export_master_secret.hex() for each in responder.sessions.values()]
        answer = responder.respond(bytes.fromhex(request["transport_hex"]))
        assert answer.hex() == response["transport_hex"], response["n"]
    assert exports == [each["export_master_secret_hex"] for each in recording.sessions]
    assert not responder.sessions


def test_every_secret_of_the_key_schedule_is_recomputed(recording: Recording) -> None:
    version = recording.version
    for session in recording.sessions:
        private = _private(session["requester_ephemeral_private_hex"])
        dhe = shared_secret(private, bytes.fromhex(session["responder_exchange_data_hex"]))
        other = _private(session["responder_ephemeral_private_hex"])
        assert shared_secret(other, bytes.fromhex(session["requester_exchange_data_hex"])) == dhe
        assert dhe.hex() == session["dhe_secret_hex"]
        th1, th2 = bytes.fromhex(session["th1_hex"]), bytes.fromhex(session["th2_hex"])
        secrets = HandshakeSecrets.derive(version, dhe, th1)
        assert not any(dhe)
        assert secrets.handshake.hex() == session["handshake_secret_hex"]
        assert secrets.request.hex() == session["request_handshake_secret_hex"]
        assert secrets.response.hex() == session["response_handshake_secret_hex"]
        _check_keys(version, secrets.request, session, "request_handshake")
        _check_keys(version, secrets.response, session, "response_handshake")
        for side in ("request", "response"):
            finished = expand(version, getattr(secrets, side), "finished")
            assert finished.hex() == session[f"{side}_finished_key_hex"]
        th = bytes.fromhex(session["th_for_requester_verify_data_hex"])
        assert secrets.verify_data(secrets.request, th).hex() == session["requester_verify_data_hex"]
        salt = expand(version, secrets.handshake, "derived")
        assert salt.hex() == session["salt1_hex"]
        assert extract(salt, bytes(48)).hex() == session["master_secret_hex"]
        data = secrets.data(th2)
        assert data.export.hex() == session["export_master_secret_hex"]
        _check_data_keys(version, {"request": data.request, "response": data.response}, session)


def test_the_labels_are_the_recorded_ones(recording: Recording) -> None:
    labels = {0: "derived", 1: "req hs data", 2: "rsp hs data", 3: "req app data", 4: "rsp app data"}
    labels |= {5: "key", 6: "iv", 7: "finished", 8: "exp master", 9: "traffic upd"}
    for session in recording.sessions:
        th1, th2 = bytes.fromhex(session["th1_hex"]), bytes.fromhex(session["th2_hex"])
        contexts = {1: th1, 2: th1, 3: th2, 4: th2, 8: th2}
        for number, label in labels.items():
            if f"bin_str{number}_hex" in session:
                length = {5: 32, 6: 12}.get(number, 48)
                made = bin_concat(recording.version, length, label, contexts.get(number, b""))
                assert made.hex() == session[f"bin_str{number}_hex"]


def test_transcript_hashes_are_the_recorded_ones(recording: Recording) -> None:
    chains = recording.chains
    vca = b"".join(exact for _, _, exact in recording.parsed[:6])
    assert vca.hex() == recording.run["vca_hex"]
    messages = {record["n"]: (message, exact) for record, message, exact in recording.parsed}
    for session in recording.sessions:
        transcript = SessionTranscript(vca, chains[session["slot"]].digest)
        transcript.add(messages[session["key_exchange_n"]][1])
        answer, exact = messages[session["key_exchange_rsp_n"]]
        assert exact.startswith(answer.unsigned)  # type: ignore[attr-defined]
        transcript.add(answer.unsigned)  # type: ignore[attr-defined]
        assert transcript.hash.hex() == session["th_for_signature_hex"]
        transcript.add(answer.signature)  # type: ignore[attr-defined]
        assert transcript.hash.hex() == session["th1_hex"]
        transcript.add(answer.verify_data)  # type: ignore[attr-defined]
        finish = messages[session["finish_n"]][1]
        transcript.add(finish[:4])
        assert transcript.hash.hex() == session["th_for_requester_verify_data_hex"]
        transcript.add(finish[4:])
        transcript.add(messages[session["finish_rsp_n"]][1])
        assert transcript.hash.hex() == session["th2_hex"]


def test_every_record_opens_and_is_sealed_to_the_same_bytes(recording: Recording) -> None:
    keys = _direction_keys(recording)
    opened = 0
    for record in recording.messages:
        if not record["secured"]:
            continue
        made = keys[record["session"], record["key_phase"], record["direction"]]
        arguments: dict[str, Any] = {"start": record["sequence_number"]}
        session_id = bytes.fromhex(recording.sessions[record["session"]]["session_id_le_hex"])
        size = recording.binding.sequence_size
        raw = bytes.fromhex(record["record_hex"])
        direction = Direction(recording.version, bytearray(made), session_id, size, **arguments)
        data = direction.open(raw)
        assert data.hex().endswith(record["hex"]) and len(data) == record["application_data_length"]
        if record["spdm"]:
            assert recording.binding.disclose(data).hex() == record["hex"]
        again = Direction(recording.version, bytearray(made), session_id, size, **arguments)
        assert again.seal(data, bytes.fromhex(record["random_padding_hex"])) == raw
        opened += 1
    assert opened == sum(1 for record in recording.messages if record["secured"]) > 20


def test_digests_root_hashes_and_leaf_keys_of_the_chains(recording: Recording) -> None:
    for slot, recorded in recording.run["responder_certificate_chains"].items():
        chain = recording.chains[int(slot)]
        assert chain.digest.hex() == recorded["digest_hex"]
        assert chain.root_hash.hex() == recorded["root_hash_hex"]
        assert type(chain).of(chain.certificates).raw == chain.raw
        numbers = chain.leaf_key.public_numbers()
        assert f"{numbers.x:096x}{numbers.y:096x}" == recorded["leaf_public_key_xy_hex"]
    summary = recording.run["challenge"]["measurement_summary_hash_hex"]
    assert len(hashlib.sha384().digest()) * 2 == len(summary)


class _Script:
    """Has a requester do what the recorded one did, request by request."""

    def __init__(self, requester: Requester, replay: Replay, recording: Recording) -> None:
        self._requester = requester
        self._replay = replay
        self._recording = recording
        self._evidence: Any = None
        self._session: UnverifiedSession | Session | None = None
        self.exports: list[str] = []

    @property
    def finished(self) -> bool:
        return self._replay.finished

    def run(self) -> None:
        if self._recording.messages[0]["code"] == "DOE_DISCOVERY":
            assert self._replay.run(discover()) == ((1, 0), (1, 1), (1, 2))
        skip = 0
        for record in self._recording.messages[::2]:
            if record["code"] == "DOE_DISCOVERY":
                continue
            if skip:
                skip -= 1
                continue
            skip = self._step(record)

    def _step(self, record: dict[str, Any]) -> int:
        """Do one recorded request; how many of those that follow it were done with it."""
        if record["code"] == "APPLICATION_DATA":
            assert isinstance(self._session, Session)
            self._replay.run(self._session.exchange(b"\1" + bytes.fromhex(record["hex"])))
            return 0
        request, _ = decode(bytes.fromhex(record["hex"]))
        inside = record["secured"]
        channel: SecureChannel | None = None
        if inside:
            (channel,) = self._requester.sessions.values()
        return self._flow(request, channel)

    def _flow(self, request: Any, channel: SecureChannel | None) -> int:
        requester, replay = self._requester, self._replay
        match request.CODE:
            case Code.GET_VERSION:
                replay.run(requester.get_version())
            case Code.GET_CAPABILITIES:
                replay.run(requester.get_capabilities())
            case Code.NEGOTIATE_ALGORITHMS:
                replay.run(requester.negotiate_algorithms())
            case Code.GET_DIGESTS:
                replay.run(requester.get_digests(channel))
            case Code.GET_CERTIFICATE:
                replay.run(requester.get_certificate(request.param1, channel))
            case Code.CHALLENGE:
                replay.run(requester.challenge(request.param1, summary=request.param2))
            case Code.GET_MEASUREMENTS:
                self._measure(request, channel)
            case Code.KEY_EXCHANGE:
                self._establish(request)
                return 1
            case _:
                return self._in_session(request)
        return 0

    def _measure(self, request: Any, channel: SecureChannel | None) -> None:
        flow = self._requester.get_measurements(
            request.param2,
            signed=bool(request.param1 & 1),
            raw=bool(request.param1 & 2),
            slot=request.slot,
            session=channel,
        )
        from enclave.gpu.spdm import PeerError

        try:
            _, evidence = self._replay.run(flow)
        except PeerError as error:
            assert error.code == 1 and request.param2 == 5
            return
        self._evidence = evidence or self._evidence

    def _establish(self, request: Any) -> None:
        flow = self._requester.establish(request.param2, summary=request.param1, policy=request.policy)
        session: UnverifiedSession = self._replay.run(flow)
        assert session.heartbeat_period == 240
        if self._evidence.slot == session.slot:
            self._session = session.accept(self._evidence, lambda evidence: True)
            self.exports.append(self._session.export_master_secret().hex())
        else:
            self._session = Session(self._requester, session._channel, session.heartbeat_period)
            self.exports.append(self._session.export_master_secret().hex())

    def _in_session(self, request: Any) -> int:
        assert self._session is not None
        match request.CODE:
            case Code.HEARTBEAT:
                self._replay.run(self._session.heartbeat())
            case Code.KEY_UPDATE:
                both = request.param1 == KeyOperation.UPDATE_ALL_KEYS
                self._replay.run(self._session.update_keys(both=both))
                return 1
            case Code.END_SESSION:
                self._replay.run(self._session.end())
            case _:
                raise AssertionError(request)
        return 0


def _expected(recording: Recording, record: dict[str, Any]) -> Any:
    if record["direction"] == "request":
        from enclave.gpu.spdm.messages import NOTHING

        return NOTHING
    request: Message = next(m for r, m, _ in recording.parsed if r["n"] == record["n"] - 1)
    return recording.expected(request)


def _check_keys(version: int, secret: bytearray, session: dict[str, Any], name: str) -> None:
    if f"{name}_key_hex" in session:
        assert expand(version, secret, "key", length=32).hex() == session[f"{name}_key_hex"]
        assert expand(version, secret, "iv", length=12).hex() == session[f"{name}_iv_hex"]


def _check_data_keys(version: int, secrets: dict[str, bytearray], session: dict[str, Any]) -> None:
    for entry in session["data_keys"]:
        side = entry["direction"]
        if entry["phase"] == "data.1":
            secrets[side] = expand(version, secrets[side], "traffic upd")
        assert secrets[side].hex() == entry["secret_hex"]
        assert expand(version, secrets[side], "key", length=32).hex() == entry["key_hex"]
        assert expand(version, secrets[side], "iv", length=12).hex() == entry["iv_hex"]


def _direction_keys(recording: Recording) -> dict[tuple[int, str, str], bytes]:
    found: dict[tuple[int, str, str], bytes] = {}
    for index, session in enumerate(recording.sessions):
        for side in ("request", "response"):
            found[index, "handshake", side] = bytes.fromhex(session[f"{side}_handshake_secret_hex"])
        for entry in session["data_keys"]:
            found[index, entry["phase"], entry["direction"]] = bytes.fromhex(entry["secret_hex"])
    return found
