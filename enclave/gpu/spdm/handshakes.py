"""A responder's answers to KEY_EXCHANGE and FINISH."""

from typing import TYPE_CHECKING

from . import signing
from .answers import sign, summary_hash
from .channel import SecureChannel
from .codes import NONCE_SIZE, Capability, ErrorCode
from .errors import RemoteProtocolError, SignatureRefused
from .messages import Finish, FinishRsp, KeyExchange, KeyExchangeRsp
from .octets import number
from .opaque import SECURED_VERSIONS, read_supported, selected_version
from .refusal import Refusal
from .schedule import HandshakeSecrets, public_point, shared_secret
from .states import State
from .transcript import SessionTranscript

if TYPE_CHECKING:
    from .responder import Responder

MAX_SESSIONS = 4
_HIGHEST_ID = 0xFFFF


def in_the_clear(responder: "Responder") -> bool:
    """Whether both sides want the handshake unencrypted."""
    return bool(responder.flags & responder.peer_flags & Capability.HANDSHAKE_IN_THE_CLEAR)


def key_exchange(
    responder: "Responder", request: KeyExchange, raw: bytes, channel: SecureChannel | None
) -> bytes:
    """A new session in its handshake, signed by the slot's leaf."""
    chain = responder.identity.chains.get(request.param2)
    if channel is not None or chain is None or not responder.peer_flags & Capability.KEY_EX:
        raise Refusal(ErrorCode.INVALID_REQUEST)
    key = responder.entropy.ephemeral()
    dhe = shared_secret(key, request.exchange)
    own_id = _free_id(responder)
    unsigned = KeyExchangeRsp(
        version=request.version,
        param1=_heartbeat_period(responder),
        session_id=own_id,
        random=responder.entropy.octets(NONCE_SIZE),
        exchange=public_point(key),
        summary=summary_hash(responder, request.param1),
        opaque=selected_version(request.version, _secured_version(request)),
        signature=b"",
        verify_data=b"",
    ).unsigned
    transcript = SessionTranscript(responder.transcript.vca, chain.digest)
    transcript.add(raw + unsigned)
    signature = sign(responder, request.param2, signing.KEY_EXCHANGE, transcript.raw)
    transcript.add(signature)
    secrets = HandshakeSecrets.derive(request.version, dhe, transcript.hash)
    session_id = number(request.session_id, 2) + number(own_id, 2)
    made = SecureChannel(session_id, request.param2, secrets, transcript, responder.binding.sequence_size)
    verify_data = b"" if in_the_clear(responder) else made.responder_verify_data()
    transcript.add(verify_data)
    responder.sessions[session_id] = made
    return unsigned + signature + verify_data


def finish(responder: "Responder", request: Finish, raw: bytes, channel: SecureChannel | None) -> bytes:
    """Checks RequesterVerifyData; one that is wrong ends the session."""
    clear = in_the_clear(responder)
    session = _unfinished(responder) if clear and channel is None else channel
    if session is None or clear is not (channel is None) or request.param1:
        raise Refusal(ErrorCode.UNEXPECTED_REQUEST)
    session.transcript.add(raw[:4])
    try:
        session.check(session.requester_verify_data(), request.verify_data, "RequesterVerifyData")
    except SignatureRefused:
        session.state = State.ENDED
        if clear:
            responder.end(session)
        raise Refusal(ErrorCode.DECRYPT_ERROR) from None
    session.transcript.add(request.verify_data)
    header = FinishRsp(version=request.version).to_bytes()
    session.transcript.add(header)
    session.finished = True
    if not clear:
        return header  # the session is established when this is sealed under the handshake's keys
    verify_data = session.responder_verify_data()
    session.transcript.add(verify_data)
    session.establish()
    return header + verify_data


def _unfinished(responder: "Responder") -> SecureChannel | None:
    return next((each for each in responder.sessions.values() if each.state is State.HANDSHAKE), None)


def _heartbeat_period(responder: "Responder") -> int:
    both = responder.flags & responder.peer_flags & Capability.HBEAT
    return responder.responses.heartbeat_period if both else 0


def _secured_version(request: KeyExchange) -> int:
    offered = {version & 0xFFF0 for version in read_supported(request.version, request.opaque)}
    common = offered & set(SECURED_VERSIONS)
    if not common:
        raise RemoteProtocolError("no common version of secured messages")
    return max(common)


def _free_id(responder: "Responder") -> int:
    for unfinished in [c for c in responder.sessions.values() if c.state is State.HANDSHAKE]:
        responder.end(unfinished)  # a handshake that was given up holds no place
    if len(responder.sessions) >= MAX_SESSIONS:
        raise Refusal(ErrorCode.SESSION_LIMIT_EXCEEDED)
    taken = {int.from_bytes(each[2:], "little") for each in responder.sessions}
    return next(each for each in range(_HIGHEST_ID, 0, -1) if each not in taken)
