"""A responder's answer to each request: one function a message (sessions begin in handshakes.py)."""

import hashlib
from typing import TYPE_CHECKING, Final

from . import signing
from .channel import SecureChannel
from .codes import (
    ALL,
    NO_SUMMARY,
    NONCE_SIZE,
    SLOTS,
    SPDM_12,
    TCB_SUMMARY,
    Algorithm,
    AlgorithmType,
    ErrorCode,
    KeyOperation,
)
from .messages import (
    RAW,
    SIGNED,
    Algorithms,
    AlgorithmStructure,
    Capabilities,
    Certificate,
    Challenge,
    ChallengeAuth,
    Digests,
    EndSession,
    EndSessionAck,
    GetCapabilities,
    GetCertificate,
    GetDigests,
    GetMeasurements,
    GetVersion,
    Heartbeat,
    HeartbeatAck,
    KeyUpdate,
    KeyUpdateAck,
    Measurements,
    NegotiateAlgorithms,
    Version,
)
from .refusal import Refusal
from .states import State
from .transcript import Transcript

if TYPE_CHECKING:
    from .responder import Responder

_IMMUTABLE_ROM: Final = 0
_KIND: Final = 0x7F
_CERTIFICATE_HEADER: Final = 8
MIN_TRANSFER_SIZE: Final = 42
_SUITE: Final = {
    AlgorithmType.DHE: Algorithm.SECP384R1,
    AlgorithmType.AEAD: Algorithm.AES_256_GCM,
    AlgorithmType.KEY_SCHEDULE: Algorithm.SPDM_KEY_SCHEDULE,
}


def get_version(
    responder: "Responder", request: GetVersion, raw: bytes, channel: SecureChannel | None
) -> bytes:
    """Forgets the connection that was."""
    responder.forget()
    answer = Version(entries=tuple(version << 8 for version in responder.versions)).to_bytes()
    responder.transcript.add_vca(raw, answer)
    responder.state = State.VERSION
    return answer


def get_capabilities(
    responder: "Responder", request: GetCapabilities, raw: bytes, channel: SecureChannel | None
) -> bytes:
    """The version of this request is the one that the requester chose."""
    if request.version >= SPDM_12 and request.data_transfer_size < MIN_TRANSFER_SIZE:
        raise Refusal(ErrorCode.INVALID_REQUEST)
    transcript = Transcript(request.version)
    transcript.add_vca(responder.transcript.vca, b"")
    responder.transcript = transcript
    responder.peer_flags = request.flags
    responder.peer_transfer_size = request.data_transfer_size
    size = responder.transfer_size if request.version >= SPDM_12 else 0
    answer = Capabilities(
        version=request.version, flags=responder.flags, data_transfer_size=size, max_message_size=size
    ).to_bytes()
    transcript.add_vca(raw, answer)
    responder.state = State.CAPABILITIES
    return answer


def negotiate_algorithms(
    responder: "Responder", request: NegotiateAlgorithms, raw: bytes, channel: SecureChannel | None
) -> bytes:
    """Chooses the one suite, or refuses where the requester lacks it."""
    offered = [
        request.base_asym & Algorithm.ECDSA_P384,
        request.base_hash & Algorithm.SHA_384,
        *(request.bits(kind) & bit for kind, bit in _SUITE.items()),
    ]
    if not all(offered):
        raise Refusal(ErrorCode.INVALID_REQUEST)
    structures = tuple(
        AlgorithmStructure.of(item.kind, _SUITE.get(AlgorithmType(item.kind), 0))
        for item in request.structures
        if item.kind in set(AlgorithmType)
    )
    measures = request.measurement_specification & Algorithm.DMTF_MEASUREMENTS
    answer = Algorithms(
        version=request.version,
        param1=len(structures),
        measurement_specification=measures,
        other_params=request.other_params & Algorithm.OPAQUE_FORMAT_1 if request.version >= SPDM_12 else 0,
        measurement_hash=Algorithm.MEASUREMENT_SHA_384 if measures else 0,
        base_asym=Algorithm.ECDSA_P384,
        base_hash=Algorithm.SHA_384,
        structures=structures,
    ).to_bytes()
    responder.transcript.add_vca(raw, answer)
    responder.state = State.NEGOTIATED
    return answer


def get_digests(
    responder: "Responder", request: GetDigests, raw: bytes, channel: SecureChannel | None
) -> bytes:
    """One digest for every slot that is filled."""
    digests = tuple(chain.digest for _, chain in sorted(responder.identity.chains.items()))
    answer = Digests(version=request.version, param2=slot_mask(responder), digests=digests).to_bytes()
    if channel is None:
        responder.transcript.add_certificates(raw, answer)
    return answer


def get_certificate(
    responder: "Responder", request: GetCertificate, raw: bytes, channel: SecureChannel | None
) -> bytes:
    """As much of the chain as was asked for and fits."""
    chain = responder.identity.chains.get(request.param1)
    if chain is None or request.offset >= len(chain.raw) or not request.length:
        raise Refusal(ErrorCode.INVALID_REQUEST)
    most = min(
        request.length, (responder.peer_transfer_size or responder.transfer_size) - _CERTIFICATE_HEADER
    )
    portion = chain.raw[request.offset : request.offset + most]
    answer = Certificate(
        version=request.version,
        param1=request.param1,
        portion=portion,
        remainder=len(chain.raw) - request.offset - len(portion),
    ).to_bytes()
    if channel is None:
        responder.transcript.add_certificates(raw, answer)
    return answer


def challenge(responder: "Responder", request: Challenge, raw: bytes, channel: SecureChannel | None) -> bytes:
    """Signs M1/M2."""
    chain = responder.identity.chains.get(request.param1)
    if chain is None:
        raise Refusal(ErrorCode.INVALID_REQUEST)
    unsigned = ChallengeAuth(
        version=request.version,
        param1=request.param1,
        param2=slot_mask(responder),
        chain_hash=chain.digest,
        nonce=responder.entropy.octets(NONCE_SIZE),
        summary=summary_hash(responder, request.param2),
        opaque=b"",
        signature=b"",
    ).to_bytes()
    return unsigned + sign(
        responder, request.param1, signing.CHALLENGE, responder.transcript.challenge(raw, unsigned)
    )


def get_measurements(
    responder: "Responder", request: GetMeasurements, raw: bytes, channel: SecureChannel | None
) -> bytes:
    """The blocks asked for, signed where that was asked; an index that there is not resets L1/L2."""
    within = channel.measurements if channel else responder.transcript.measurements
    blocks = responder.responses.measurements(bool(request.param1 & RAW))
    chosen = [b for b in blocks if request.param2 in (ALL, b.index)] if request.param2 else []
    signed = bool(request.param1 & SIGNED)
    if (request.param2 and not chosen) or (signed and request.slot not in responder.identity.chains):
        within.reset()
        raise Refusal(ErrorCode.INVALID_REQUEST)
    change = responder.responses.unchanged if signed and request.version >= SPDM_12 else 0
    unsigned = Measurements(
        version=request.version,
        param1=0 if request.param2 else len(blocks),
        param2=(request.slot | change) if signed else 0,
        blocks=tuple(chosen),
        nonce=responder.entropy.octets(NONCE_SIZE),
        opaque=responder.responses.opaque(),
    ).to_bytes()
    if not signed:
        within.add(raw, unsigned)
        return unsigned
    exchanges = within.signed(raw, unsigned)
    return unsigned + sign(
        responder, request.slot, signing.MEASUREMENTS, responder.transcript.l1l2(exchanges)
    )


def heartbeat(responder: "Responder", request: Heartbeat, raw: bytes, channel: SecureChannel | None) -> bytes:
    """Nothing but the answer."""
    return HeartbeatAck(version=request.version).to_bytes()


def key_update(
    responder: "Responder", request: KeyUpdate, raw: bytes, channel: SecureChannel | None
) -> bytes:
    """Prepares new keys; the answer goes under the old response keys unless all are renewed."""
    if channel is None or request.param1 not in set(KeyOperation):
        raise Refusal(ErrorCode.INVALID_REQUEST)
    if request.param1 == KeyOperation.VERIFY_NEW_KEY:
        channel.state = State.ESTABLISHED
    else:
        channel.prepare_update(KeyOperation(request.param1))
        channel.adopt_response()
        channel.state = State.UPDATING
    return KeyUpdateAck(version=request.version, param1=request.param1, param2=request.param2).to_bytes()


def end_session(
    responder: "Responder", request: EndSession, raw: bytes, channel: SecureChannel | None
) -> bytes:
    """The session ends when the answer is sealed."""
    if channel is not None:
        channel.state = State.ENDED
    return EndSessionAck(version=request.version).to_bytes()


def slot_mask(responder: "Responder") -> int:
    """The filled slots, a bit each."""
    return sum(1 << slot for slot in responder.identity.chains if slot < SLOTS)


def summary_hash(responder: "Responder", kind: int) -> bytes:
    """SHA-384 over the blocks in digest form: all, or those of the immutable ROM; nothing if not asked."""
    if kind == NO_SUMMARY:
        return b""
    if kind not in (TCB_SUMMARY, ALL):
        raise Refusal(ErrorCode.INVALID_REQUEST)
    blocks = responder.responses.measurements(False)
    chosen = (block for block in blocks if kind == ALL or block.kind & _KIND == _IMMUTABLE_ROM)
    return hashlib.sha384(b"".join(block.to_bytes() for block in chosen)).digest()


def sign(responder: "Responder", slot: int, context: str, transcript: bytes) -> bytes:
    """The signature of the leaf in `slot` over a transcript."""
    message = signing.signed_message(responder.version, context, transcript)
    return responder.identity.sign(slot, message)
