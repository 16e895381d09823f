"""A device and a requester in one process, with an adversary's hand on the wire if a test wants one."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from enclave.gpu.spdm import (
    Binding,
    CertificateChain,
    Evidence,
    Flow,
    Identity,
    Mctp,
    MeasurementBlock,
    Requester,
    Responder,
    Responses,
    Session,
    UnverifiedSession,
    drive,
)
from enclave.gpu.spdm.signing import sign

NONCE = bytes(range(32))
_VALID = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC))


@functools.cache
def device_keys(name: str = "device") -> tuple[ec.EllipticCurvePrivateKey, CertificateChain]:
    """A leaf key and its chain of two certificates."""
    root, leaf = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    above = _certificate("root", "root", root, root)
    return leaf, CertificateChain.of([above, _certificate(name, "root", leaf, root)])


def _certificate(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (subject, issuer)]
    builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1])
    builder = builder.not_valid_before(_VALID[0]).not_valid_after(_VALID[1])
    builder = builder.serial_number(x509.random_serial_number()).public_key(key.public_key())
    return builder.sign(signer, hashes.SHA384())


def blocks(raw: bool = False) -> list[MeasurementBlock]:
    """Three measurements."""
    return [
        MeasurementBlock.dmtf(index, (index - 1) | 0x80 * raw, bytes((index,)) * 48) for index in (1, 2, 9)
    ]


def responder(binding: Binding | None = None, **options: Any) -> Responder:
    """A device."""
    key, chain = device_keys()
    identity = Identity({0: chain, 2: chain}, lambda slot, message: sign(key, message))
    responses = options.pop("responses", None) or Responses(
        measurements=blocks, application=lambda channel, data: data[::-1]
    )
    return Responder(binding or Mctp(), identity, responses, **options)


@dataclass
class World:
    """Both sides. `tamper(packet, answering)` alters what passes."""

    binding: Binding = field(default_factory=Mctp)
    device: Responder = field(default_factory=responder)
    requester: Requester = field(default_factory=lambda: Requester(Mctp()))
    tamper: Callable[[bytes, bool], bytes] = lambda packet, answering: packet
    sent: list[bytes] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, binding: Binding, *, device: dict[str, Any] | None = None, **options: Any) -> "World":
        return cls(
            binding=binding,
            device=responder(binding, **(device or {})),
            requester=Requester(binding, **options),
        )

    def run(self, flow: Flow[Any]) -> Any:
        """Drive a flow against the device."""
        answers: list[bytes] = []

        def send(packet: bytes) -> None:
            self.sent.append(packet)
            answers.append(self.tamper(self.device.respond(self.tamper(packet, False)), True))

        return drive(flow, send, answers.pop, sleep=self.slept.append)

    def connected(self, slot: int = 0) -> "World":
        """Negotiated, the chain fetched."""
        self.run(self.requester.connect())
        self.run(self.requester.get_digests())
        self.run(self.requester.get_certificate(slot))
        return self

    def unverified(self, slot: int = 0, **options: Any) -> UnverifiedSession:
        """A session of which nothing is known yet."""
        made: UnverifiedSession = self.run(self.connected(slot).requester.establish(slot, **options))
        return made

    def session(self, slot: int = 0) -> Session:
        """A verified session."""
        made: Session = self.run(self.unverified(slot).verify(accepts, NONCE))
        return made


def accepts(evidence: Evidence) -> bool:
    """A judge that trusts anybody."""
    return True
