"""DMTF's reference requester and responder, as recorded in ../shared/vectors/spdm: read, and replayed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from enclave.gpu.spdm import (
    SPDM_11,
    SPDM_12,
    Binding,
    Capability,
    CertificateChain,
    Entropy,
    Flow,
    Identity,
    Mctp,
    MeasurementBlock,
    PciDoe,
    Responses,
    SecureChannel,
)
from enclave.gpu.spdm.messages import (
    NOTHING,
    Expected,
    Message,
    decode,
)
from enclave.gpu.spdm.signing import verify
from tests.shared import shared

NAMES = ("spdm-1.1-mctp", "spdm-1.2-mctp", "spdm-1.2-pcidoe")


@dataclass(frozen=True)
class Recording:
    """One recorded run."""

    run: dict[str, Any]

    @classmethod
    def load(cls, name: str) -> "Recording":
        path: Path = shared("vectors", "spdm") / f"{name}.json"
        return cls(json.loads(path.read_text()))

    @property
    def version(self) -> int:
        return SPDM_12 if self.run["spdm_version"] == "1.2" else SPDM_11

    @property
    def binding(self) -> Binding:
        return PciDoe() if "DOE" in self.run["transport"] else Mctp()

    @property
    def messages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run["messages"]
        return found

    @property
    def sessions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run["sessions"]
        return found

    @property
    def chains(self) -> dict[int, CertificateChain]:
        chains = self.run["responder_certificate_chains"]
        return {
            int(slot): CertificateChain.from_bytes(bytes.fromhex(chain["spdm_chain_hex"]))
            for slot, chain in chains.items()
        }

    @property
    def clear(self) -> bool:
        both = self.flags("requester") & self.flags("responder")
        return bool(both & Capability.HANDSHAKE_IN_THE_CLEAR)

    def flags(self, side: str) -> int:
        return int(self.run["capabilities"][f"{side}_flags"], 16)

    @cached_property
    def parsed(self) -> list[tuple[dict[str, Any], Message, bytes]]:
        """Every SPDM message with its record, parsed with what its request says of it."""
        found: list[tuple[dict[str, Any], Message, bytes]] = []
        expected = NOTHING
        for record in self.messages:
            if not record["spdm"]:
                continue
            raw = bytes.fromhex(record["hex"])
            if record["direction"] == "request":
                message, exact = decode(raw)
                expected = self.expected(message)
            else:
                message, exact = decode(raw, expected)
            found.append((record, message, exact))
        return found

    def expected(self, request: Message) -> Expected:
        """What the answer to `request` will carry."""
        name = request.CODE.name
        return Expected(
            signed=name == "GET_MEASUREMENTS" and bool(request.param1 & 1),
            summary=(name == "CHALLENGE" and request.param2 != 0)
            or (name == "KEY_EXCHANGE" and request.param1 != 0),
            verify_data=(name == "KEY_EXCHANGE" and not self.clear) or (name == "FINISH" and self.clear),
        )

    def of(self, name: str) -> list[Any]:
        """The parsed messages of one code, in order."""
        return [message for _, message, _ in self.parsed if message.CODE.name == name]

    def entropy(self, side: str) -> Entropy:
        """The random values that `side` ("requester", "responder") sent, in order, and no others."""
        direction = "request" if side == "requester" else "response"
        values = iter(list(self._octets(direction)))
        keys = iter([_private(each[f"{side}_ephemeral_private_hex"]) for each in self.sessions])
        padding = iter(
            [
                bytes.fromhex(record["random_padding_hex"])
                for record in self.messages
                if record["secured"] and record["direction"] == direction
            ]
        )

        def octets(size: int) -> bytes:
            value = next(values)
            assert len(value) == size
            return value

        return Entropy(octets=octets, ephemeral=lambda: next(keys), padding=lambda: next(padding))

    def _octets(self, direction: str) -> Iterator[bytes]:
        for record, message, _ in self.parsed:
            if record["direction"] != direction:
                continue
            if message.CODE.name == "KEY_UPDATE":
                yield bytes((message.param2,))
            for name in ("random", "nonce"):
                if value := getattr(message, name, b""):
                    yield value

    def identity(self) -> Identity:
        """Signs what the recorded device signed, after checking that it is the same message."""
        chains = self.chains
        signatures = iter(
            [m.signature for r, m, _ in self.parsed if r["direction"] == "response" and _signature(m)]
        )

        def sign(slot: int, message: bytes) -> bytes:
            signature: bytes = next(signatures)
            verify(chains[slot].leaf_key, signature, message, what="the recording")
            return signature

        return Identity(chains, sign)

    def responses(self) -> Responses:
        """What the recorded device said of itself."""
        plain = _blocks(Recording.load("spdm-1.2-mctp"))
        raw = plain | _blocks(self)
        answers = iter(
            [b"\1" + bytes.fromhex(r["hex"]) for r in self.messages if _application(r, "response")]
        )

        def application(channel: SecureChannel, data: bytes) -> bytes:
            return next(answers)

        return Responses(
            measurements=lambda as_values: list((raw if as_values else plain).values()),
            heartbeat_period=self.sessions[0]["heartbeat_period"],
            application=application,
        )


def _application(record: dict[str, Any], direction: str) -> bool:
    return record["code"] == "APPLICATION_DATA" and record["direction"] == direction


def _signature(message: Message) -> bytes:
    return getattr(message, "signature", b"")


def _private(text: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int(text, 16), ec.SECP384R1())


def _blocks(recording: Recording) -> dict[int, MeasurementBlock]:
    blocks = (block for message in recording.of("MEASUREMENTS") for block in message.blocks)
    return dict(sorted({block.index: block for block in blocks}.items()))


class Replay:
    """The recorded device (or requester), answering a flow that says exactly what was said to it."""

    def __init__(self, recording: Recording) -> None:
        self._messages = iter(recording.messages)

    def run(self, flow: Flow[Any]) -> Any:
        """Run `flow` to its end."""
        try:
            step = next(flow)
            while True:
                request, response = next(self._messages), next(self._messages)
                assert step.packet.hex() == request["transport_hex"], request["n"]
                step = flow.send(bytes.fromhex(response["transport_hex"]))
        except StopIteration as stop:
            return stop.value

    @property
    def finished(self) -> bool:
        return next(self._messages, None) is None
