"""The requester's side of a connection: negotiation, certificates, challenge, measurements, key exchange.

Every method that talks is a flow (flow.py): `drive(requester.connect(), send, receive)`. One flow at a time;
a flow that is broken off, or in which the peer erred, ends the session or the connection it was part of.
"""

from collections.abc import Callable, Sequence
from typing import Final

from . import signing
from .bindings import Binding
from .chain import CertificateChain
from .channel import SecureChannel
from .codes import (
    ALL,
    NO_SUMMARY,
    NONCE_SIZE,
    REQUESTER_FLAGS,
    SLOTS,
    SPDM_11,
    SPDM_12,
    Algorithm,
    AlgorithmType,
    Capability,
)
from .connection import Connection, Exchange
from .entropy import Entropy
from .errors import LocalProtocolError, MalformedMessage, RemoteProtocolError, SignatureRefused
from .flow import Flow
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
    Expected,
    GetCapabilities,
    GetCertificate,
    GetDigests,
    GetMeasurements,
    GetVersion,
    Measurements,
    NegotiateAlgorithms,
    Version,
)
from .session import Evidence, UnverifiedSession, handshake
from .states import State
from .transcript import Transcript

VERSIONS: Final = (SPDM_12, SPDM_11)
TRANSFER_SIZE: Final = 4608
_CERTIFICATE_HEADER: Final = 8
_MAX_CHAIN: Final = 0xFFFF


class Requester(Connection):
    """One connection to a device. `versions` are tried in their order; `flags` are Capability bits."""

    def __init__(
        self,
        binding: Binding,
        *,
        versions: Sequence[int] = VERSIONS,
        flags: int = REQUESTER_FLAGS,
        entropy: Entropy | None = None,
        transfer_size: int = TRANSFER_SIZE,
        portion: int = 0,
    ) -> None:
        """`transfer_size` is the most that we receive at once, `portion` the bytes of a chain we ask for."""
        super().__init__(binding, entropy or Entropy())
        self.flags = flags
        self.peer_flags = 0
        self._versions = tuple(versions)
        self._transfer_size = transfer_size
        self._portion = portion or min(transfer_size - _CERTIFICATE_HEADER, _MAX_CHAIN)
        self._digests: dict[int, bytes] = {}

    def connect(self) -> Flow[None]:
        """GET_VERSION to ALGORITHMS. Raises RemoteProtocolError if the peer lacks what is needed."""
        yield from self.get_version()
        yield from self.get_capabilities()
        yield from self.negotiate_algorithms()

    def get_version(self) -> Flow[Version]:
        """Agree on a version; a connection that existed is forgotten, with its sessions."""
        self.forget()
        self._digests = {}
        done = yield from self.ask(GetVersion(), Version)
        chosen = next((v for v in self._versions if v in done.response.spoken), None)
        if chosen is None:
            spoken = ", ".join(f"{v >> 4}.{v & 15}" for v in sorted(done.response.spoken))
            raise RemoteProtocolError(f"the device speaks SPDM {spoken or 'of no version'}, we do not")
        self.transcript = Transcript(chosen)
        self.transcript.add_vca(done.request, done.raw)
        self.state = State.VERSION
        return done.response

    def get_capabilities(self) -> Flow[Capabilities]:
        """Exchange capabilities."""
        size = self._transfer_size if self.version >= SPDM_12 else 0
        request = GetCapabilities(
            version=self.version, flags=self.flags, data_transfer_size=size, max_message_size=size
        )
        done = yield from self.ask(request, Capabilities)
        self.peer_flags = done.response.flags
        self.transcript.add_vca(done.request, done.raw)
        self.state = State.CAPABILITIES
        return done.response

    def negotiate_algorithms(self) -> Flow[Algorithms]:
        """Agree on the one suite. Raises RemoteProtocolError if the device chooses another or none."""
        done = yield from self.ask(_offer(self.version), Algorithms)
        _check_suite(done.response, self.version, measures=bool(self.peer_flags & Capability.MEAS_SIGNED))
        self.transcript.add_vca(done.request, done.raw)
        self.state = State.NEGOTIATED
        return done.response

    def get_digests(self, session: SecureChannel | None = None) -> Flow[Digests]:
        """The digests of the device's chains."""
        done = yield from self.ask(GetDigests(version=self.version), Digests, session=session)
        self._digests = done.response.by_slot
        if session is None:
            self.transcript.add_certificates(done.request, done.raw)
        return done.response

    def get_certificate(self, slot: int = 0, session: SecureChannel | None = None) -> Flow[CertificateChain]:
        """The chain in `slot`, in portions. Raises SignatureRefused if it is not what DIGESTS named."""
        if not 0 <= slot < SLOTS:
            raise LocalProtocolError(f"slots are 0 to {SLOTS - 1}")
        raw, remainder = b"", 1
        while remainder:
            done = yield from self._next_portion(slot, len(raw), session)
            if done.response.param1 & 0xF != slot or not done.response.portion:
                raise MalformedMessage("CERTIFICATE is of another slot, or empty")
            raw, remainder = raw + done.response.portion, done.response.remainder
            if len(raw) + remainder > _MAX_CHAIN:
                raise MalformedMessage("the certificate chain does not end")
        chain = CertificateChain.from_bytes(raw)
        if self._digests.get(slot, chain.digest) != chain.digest:
            raise SignatureRefused(f"the chain in slot {slot} is not the one that DIGESTS named")
        self.chains[slot] = chain
        return chain

    def challenge(
        self, slot: int = 0, *, summary: int = ALL, nonce: bytes | None = None
    ) -> Flow[ChallengeAuth]:
        """Have the device sign the exchanges so far. Raises SignatureRefused."""
        chain = self.chain(slot)
        nonce = self.entropy.octets(NONCE_SIZE) if nonce is None else nonce
        request = Challenge(version=self.version, param1=slot, param2=summary, nonce=nonce)
        expected = Expected(summary=summary != NO_SUMMARY)
        done = yield from self.ask(request, ChallengeAuth, expected)
        answer = done.response
        signed = self.transcript.challenge(done.request, done.raw[: -len(answer.signature)])
        if answer.param1 & 0xF != slot or answer.chain_hash != chain.digest:
            raise SignatureRefused("CHALLENGE_AUTH is by another chain than the slot's")
        self._check(chain, answer.signature, signing.CHALLENGE, signed)
        return answer

    def get_measurements(
        self,
        operation: int = ALL,
        *,
        signed: bool = True,
        raw: bool = False,
        slot: int = 0,
        nonce: bytes | None = None,
        session: SecureChannel | None = None,
    ) -> Flow[tuple[Measurements, Evidence | None]]:
        """Measurements, and evidence if signed. Raises SignatureRefused, PeerError (no such index)."""
        request = self._measurements_request(operation, signed, raw, slot, nonce)
        within = session.measurements if session else self.transcript.measurements
        try:
            done = yield from self.ask(request, Measurements, Expected(signed=signed), session=session)
        except RemoteProtocolError:
            within.reset()
            raise
        if not signed:
            within.add(done.request, done.raw)
            return done.response, None
        return done.response, self._evidence(request, done, within.signed)

    def establish(
        self, slot: int = 0, *, summary: int = NO_SUMMARY, policy: int = 1
    ) -> Flow[UnverifiedSession]:
        """KEY_EXCHANGE and FINISH with the device whose chain is in `slot`. Raises SignatureRefused.

        `policy` is SessionPolicy (1.2). The device proved that it has the leaf's key; whether that is a
        device to trust is decided by `UnverifiedSession.verify`.
        """
        return (yield from handshake(self, self.chain(slot), slot, summary=summary, policy=policy))

    def chain(self, slot: int) -> CertificateChain:
        """The chain in `slot`. LocalProtocolError unless `get_certificate` has fetched it."""
        if slot not in self.chains:
            raise LocalProtocolError(f"the chain in slot {slot} is unknown: get_certificate first")
        return self.chains[slot]

    def _next_portion(
        self, slot: int, offset: int, session: SecureChannel | None
    ) -> Flow[Exchange[Certificate]]:
        request = GetCertificate(version=self.version, param1=slot, offset=offset, length=self._portion)
        done = yield from self.ask(request, Certificate, session=session)
        if session is None:
            self.transcript.add_certificates(done.request, done.raw)
        return done

    def _measurements_request(
        self, operation: int, signed: bool, raw: bool, slot: int, nonce: bytes | None
    ) -> GetMeasurements:
        if signed:
            self.chain(slot)
            nonce = self.entropy.octets(NONCE_SIZE) if nonce is None else nonce
            if len(nonce) != NONCE_SIZE:
                raise LocalProtocolError(f"a nonce is {NONCE_SIZE} bytes")
        attributes = (SIGNED if signed else 0) | (RAW if raw else 0)
        return GetMeasurements(
            version=self.version, param1=attributes, param2=operation, nonce=nonce or b"", slot=slot
        )

    def _evidence(
        self, request: GetMeasurements, done: Exchange[Measurements], close: Callable[[bytes, bytes], bytes]
    ) -> Evidence:
        signature = done.response.signature
        exchanges = close(done.request, done.raw[: -len(signature)])
        if done.response.param2 & 0xF != request.slot:
            raise SignatureRefused("MEASUREMENTS is by another slot")
        chain = self.chain(request.slot)
        signed = self.transcript.l1l2(exchanges)
        self._check(chain, signature, signing.MEASUREMENTS, signed)
        return Evidence(chain, signed + signature, request.nonce, request.slot, self)

    def _check(self, chain: CertificateChain, signature: bytes, context: str, transcript: bytes) -> None:
        message = signing.signed_message(self.version, context, transcript)
        signing.verify(chain.leaf_key, signature, message, what=context.split()[0])


def _offer(version: int) -> NegotiateAlgorithms:
    structures = (
        AlgorithmStructure.of(AlgorithmType.DHE, Algorithm.SECP384R1),
        AlgorithmStructure.of(AlgorithmType.AEAD, Algorithm.AES_256_GCM),
        AlgorithmStructure.of(AlgorithmType.KEY_SCHEDULE, Algorithm.SPDM_KEY_SCHEDULE),
    )
    return NegotiateAlgorithms(
        version=version,
        param1=len(structures),
        measurement_specification=Algorithm.DMTF_MEASUREMENTS,
        other_params=Algorithm.OPAQUE_FORMAT_1 if version >= SPDM_12 else 0,
        base_asym=Algorithm.ECDSA_P384,
        base_hash=Algorithm.SHA_384,
        structures=structures,
    )


def _check_suite(answer: Algorithms, version: int, *, measures: bool) -> None:
    chosen = {
        "signature": (answer.base_asym, Algorithm.ECDSA_P384),
        "hash": (answer.base_hash, Algorithm.SHA_384),
        "key exchange": (answer.bits(AlgorithmType.DHE), Algorithm.SECP384R1),
        "AEAD": (answer.bits(AlgorithmType.AEAD), Algorithm.AES_256_GCM),
        "key schedule": (answer.bits(AlgorithmType.KEY_SCHEDULE), Algorithm.SPDM_KEY_SCHEDULE),
    }
    if measures:
        chosen["measurements"] = (answer.measurement_specification, Algorithm.DMTF_MEASUREMENTS)
    if version >= SPDM_12:
        chosen["opaque data"] = (answer.other_params & 0xF, Algorithm.OPAQUE_FORMAT_1)
    refused = [name for name, (got, wanted) in chosen.items() if got != wanted]
    if refused:
        raise RemoteProtocolError(
            f"the device did not choose our {', '.join(refused)}: P-384, SHA-384 and AES-256-GCM it must be"
        )
