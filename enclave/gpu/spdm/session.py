"""Sessions of a requester: established, then verified. Only a verified one gives out keys or carries data.

UnverifiedSession.verify(judge) -> Session
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import signing
from .chain import CertificateChain
from .channel import SecureChannel
from .codes import ALL, NO_SUMMARY, NONCE_SIZE, SPDM_12, Capability, KeyOperation
from .connection import Connection, Exchange
from .errors import DeviceRefused, LocalProtocolError, PeerError, RemoteProtocolError
from .flow import Flow
from .messages import (
    EndSession,
    EndSessionAck,
    Expected,
    Finish,
    FinishRsp,
    Heartbeat,
    HeartbeatAck,
    KeyExchange,
    KeyExchangeRsp,
    KeyUpdate,
    KeyUpdateAck,
    Measurements,
)
from .octets import number
from .opaque import SECURED_VERSIONS, read_selected, supported_versions
from .schedule import HandshakeSecrets, public_point, shared_secret
from .states import State, Step
from .transcript import SessionTranscript

if TYPE_CHECKING:
    from .requester import Requester

_HIGHEST_ID: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a device signed of itself: the signature verifies under `chain`'s leaf, nobody is trusted yet.

    `report` is L1/L2 and the signature. In 1.1, with no unsigned exchange before it, that is request ||
    response: NVIDIA's evidence form (attestation/nvidia/report.py). `connection` is whose it is.
    """

    chain: CertificateChain
    report: bytes
    nonce: bytes
    slot: int
    connection: Connection


Judge = Callable[[Evidence], bool]
"""Appraises evidence under a policy: True accepts; anything else, or an exception, refuses."""


class _InSession:
    """What may be done in a session before and after the device is verified."""

    def __init__(self, requester: "Requester", channel: SecureChannel, heartbeat_period: int) -> None:
        self._requester = requester
        self._channel = channel
        self.heartbeat_period = heartbeat_period
        """Seconds between heartbeats that the device demands; 0 for none."""

    @property
    def id(self) -> bytes:
        """The session ID on the wire, 4 bytes."""
        return self._channel.session_id

    @property
    def transcript_hash(self) -> bytes:
        """TH2, 48 bytes: public, and different for every session."""
        return self._channel.transcript.hash

    @property
    def slot(self) -> int:
        """The slot of the chain whose leaf signed the key exchange."""
        return self._channel.slot

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._channel.state is not State.ENDED

    def measurements(
        self,
        operation: int = ALL,
        *,
        signed: bool = True,
        raw: bool = False,
        nonce: bytes | None = None,
    ) -> Flow[tuple[Measurements, Evidence | None]]:
        """Measurements in the session; signed ones by the leaf that signed the key exchange."""
        return self._requester.get_measurements(
            operation, signed=signed, raw=raw, slot=self.slot, nonce=nonce, session=self._channel
        )

    def evidence(self, nonce: bytes | None = None) -> Flow[Evidence]:
        """All measurements, signed in the session for `nonce` (32 bytes)."""
        _, made = yield from self.measurements(nonce=nonce)
        if made is None:
            raise LocalProtocolError("signed measurements were not asked for")
        return made

    def get_digests(self) -> Flow[object]:
        """The digests of the device's chains, asked inside the session."""
        return self._requester.get_digests(self._channel)

    def get_certificate(self, slot: int = 0) -> Flow[CertificateChain]:
        """A chain, asked inside the session."""
        return self._requester.get_certificate(slot, self._channel)

    def heartbeat(self) -> Flow[None]:
        """Show that the session is alive. LocalProtocolError if the device takes no heartbeats."""
        if not self._requester.peer_flags & Capability.HBEAT:
            raise LocalProtocolError("the device takes no heartbeats")
        request = Heartbeat(version=self._requester.version)
        yield from self._requester.ask(request, HeartbeatAck, session=self._channel)

    def update_keys(self, *, both: bool = True) -> Flow[None]:
        """Renew the request keys, and with `both` the response keys; then verify that the new ones work."""
        if not self._requester.peer_flags & Capability.KEY_UPD:
            raise LocalProtocolError("the device updates no keys")
        operation = KeyOperation.UPDATE_ALL_KEYS if both else KeyOperation.UPDATE_KEY
        yield from self._key_update(operation)
        yield from self._key_update(KeyOperation.VERIFY_NEW_KEY)

    def end(self) -> Flow[None]:
        """END_SESSION: both sides erase the keys."""
        request = EndSession(version=self._requester.version)
        yield from self._requester.ask(request, EndSessionAck, session=self._channel)
        self.erase()

    def erase(self) -> None:
        """Zero the keys without telling the device."""
        self._requester.drop(self._channel)

    def _key_update(self, operation: KeyOperation) -> Flow[None]:
        channel, tag = self._channel, self._requester.entropy.octets(1)[0]
        request = KeyUpdate(version=self._requester.version, param1=operation, param2=tag)
        channel.step(Step.of(request.CODE, operation))
        renews = operation is not KeyOperation.VERIFY_NEW_KEY
        if renews:
            channel.prepare_update(operation)
        try:
            done = yield from self._requester.ask(request, KeyUpdateAck, session=channel)
        except PeerError:
            channel.cancel_update()
            raise
        if (done.response.param1, done.response.param2) != (operation, tag):
            self.erase()
            raise RemoteProtocolError("KEY_UPDATE_ACK answers another request")
        if renews:
            channel.complete_update()
        channel.state = State.UPDATING if renews else State.ESTABLISHED


class UnverifiedSession(_InSession):
    """A session with whoever holds the leaf's key. It carries evidence and nothing of ours."""

    def verify(self, judge: Judge, nonce: bytes | None = None) -> Flow["Session"]:
        """Ask for signed measurements in the session, and return the session if `judge` accepts them.

        Raises DeviceRefused with the judge's reason; the session is then erased.
        """
        evidence = yield from self.evidence(nonce)
        return self.accept(evidence, judge)

    def accept(self, evidence: Evidence, judge: Judge) -> "Session":
        """The verified session, on evidence of this connection by the leaf that signed the key exchange."""
        ours = evidence.connection is self._requester and evidence.slot == self.slot
        try:
            if not ours or self._requester.chain(self.slot).digest != evidence.chain.digest:
                raise DeviceRefused("the evidence is of another connection or chain than the session")
            if judge(evidence) is not True:
                raise DeviceRefused("the device's evidence was refused")
        except DeviceRefused:
            self.erase()
            raise
        except Exception as error:  # whatever a judge raises, there is no session
            self.erase()
            raise DeviceRefused(f"the device's evidence was refused: {error}") from error
        return Session(self._requester, self._channel, self.heartbeat_period)


class Session(_InSession):
    """A session with a device that was judged. Made by `UnverifiedSession.verify` alone."""

    def export_master_secret(self) -> bytearray:
        """A copy of the export master secret, 48 bytes; erase it when the link's keys are derived."""
        return bytearray(self._channel.export_master_secret)

    def exchange(self, data: bytes) -> Flow[bytes]:
        """Send application data (in MCTP: its message type byte first), return the device's answer."""
        return self._requester.exchange_records(self._channel, data)


def handshake(
    requester: "Requester", chain: CertificateChain, slot: int, *, summary: int, policy: int
) -> Flow[UnverifiedSession]:
    """KEY_EXCHANGE, KEY_EXCHANGE_RSP, FINISH, FINISH_RSP."""
    if not requester.peer_flags & Capability.KEY_EX & requester.flags:
        raise LocalProtocolError("the device establishes no sessions (no KEY_EX_CAP)")
    clear = bool(requester.flags & requester.peer_flags & Capability.HANDSHAKE_IN_THE_CLEAR)
    channel, period = yield from _key_exchange(requester, chain, slot, summary, policy, clear)
    yield from _finish(requester, channel, clear)
    return UnverifiedSession(requester, channel, period)


def _key_exchange(
    requester: "Requester", chain: CertificateChain, slot: int, summary: int, policy: int, clear: bool
) -> Flow[tuple[SecureChannel, int]]:
    key = requester.entropy.ephemeral()
    request = KeyExchange(
        version=requester.version,
        param1=summary,
        param2=slot,
        session_id=_free_id(requester),
        random=requester.entropy.octets(NONCE_SIZE),
        exchange=public_point(key),
        opaque=supported_versions(requester.version),
        policy=policy if requester.version >= SPDM_12 else 0,
    )
    expected = Expected(summary=summary != NO_SUMMARY, verify_data=not clear)
    vca = requester.transcript.vca
    done = yield from requester.ask(request, KeyExchangeRsp, expected)
    answer, transcript = done.response, SessionTranscript(vca, chain.digest)
    transcript.add(done.request)
    _check_key_exchange(requester, chain, answer, done, transcript)
    secrets = HandshakeSecrets.derive(requester.version, shared_secret(key, answer.exchange), transcript.hash)
    session_id = number(request.session_id, 2) + number(answer.session_id, 2)
    channel = SecureChannel(session_id, slot, secrets, transcript, requester.binding.sequence_size)
    if not clear:
        channel.check(channel.responder_verify_data(), answer.verify_data, "ResponderVerifyData")
        transcript.add(answer.verify_data)
    requester.sessions[session_id] = channel
    return channel, answer.param1


def _check_key_exchange(
    requester: "Requester",
    chain: CertificateChain,
    answer: KeyExchangeRsp,
    done: Exchange[KeyExchangeRsp],
    transcript: SessionTranscript,
) -> None:
    """The signature over TH, which then takes the signature in; what we never agreed to is refused."""
    cut = len(answer.unsigned)
    transcript.add(done.raw[:cut])
    message = signing.signed_message(requester.version, signing.KEY_EXCHANGE, transcript.raw)
    signing.verify(chain.leaf_key, answer.signature, message, what="KEY_EXCHANGE_RSP")
    transcript.add(answer.signature)
    if answer.mut_auth:
        raise RemoteProtocolError("the device demands mutual authentication, which was not agreed")
    if read_selected(requester.version, answer.opaque) & 0xFFF0 not in SECURED_VERSIONS:
        raise RemoteProtocolError("the device chose a version of secured messages that was not offered")


def _finish(requester: "Requester", channel: SecureChannel, clear: bool) -> Flow[None]:
    header = Finish(version=requester.version, verify_data=b"").to_bytes()
    channel.transcript.add(header)
    verify_data = channel.requester_verify_data()
    channel.transcript.add(verify_data)
    request = Finish(version=requester.version, verify_data=verify_data)
    try:
        done = yield from requester.ask(
            request, FinishRsp, Expected(verify_data=clear), session=channel, clear=clear
        )
        channel.transcript.add(done.raw[:4])
        if clear:
            channel.check(channel.responder_verify_data(), done.response.verify_data, "FINISH_RSP")
            channel.transcript.add(done.response.verify_data)
    except RemoteProtocolError:
        requester.drop(channel)
        raise
    channel.establish()


def _free_id(requester: "Requester") -> int:
    taken = {int.from_bytes(each[:2], "little") for each in requester.sessions}
    found = next((each for each in range(_HIGHEST_ID, 0, -1) if each not in taken), None)
    if found is None:
        raise LocalProtocolError("every session ID is in use")
    return found
