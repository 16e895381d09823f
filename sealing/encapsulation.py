"""What both forms of oblivious HTTP share: request header, `info`, response keys (RFC 9458, section 4)."""

import os
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag

from .errors import DecryptionFailed, LocalProtocolError, UnknownKey, UnsupportedSuite
from .hpke import (
    AEAD_EXPORT_ONLY,
    N_NONCE,
    Aead,
    PrivateKey,
    RecipientContext,
    SenderContext,
    Suite,
    new_aead,
    setup_recipient,
    setup_sender,
)
from .kdf import expand, extract
from .keyconfig import GatewayKey, KeyConfig, KeyLookup
from .octets import Octets

HEADER_SIZE: Final = 7

_COUNTER_END: Final = (1 << (8 * N_NONCE)) - 1


@dataclass(frozen=True, slots=True)
class Labels:
    """The strings that separate one form of oblivious HTTP from the other."""

    request: bytes
    response: bytes


ONE_SHOT: Final = Labels(b"message/bhttp request", b"message/bhttp response")
CHUNKED: Final = Labels(b"message/bhttp chunked request", b"message/bhttp chunked response")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request's HPKE context, from which the keys of its response come. `enc` is public."""

    labels: Labels
    suite: Suite
    enc: bytes
    context: SenderContext | RecipientContext

    @property
    def n_response_nonce(self) -> int:
        """Bytes of the response nonce: max(Nn, Nk)."""
        return max(N_NONCE, self.suite.n_key)

    def response_keys(self, response_nonce: bytes) -> tuple[Aead, bytes]:
        """The response's cipher and its nonce (RFC 9458, section 4.4)."""
        secret = self.context.export(self.labels.response, self.n_response_nonce)
        prk = extract(self.enc + response_nonce, secret)
        key = expand(prk, b"key", self.suite.n_key)
        return new_aead(self.suite.aead, key), expand(prk, b"nonce", N_NONCE)

    def chunk_keys(self, response_nonce: bytes) -> "ChunkKeys":
        """As response_keys, for a response in chunks."""
        return ChunkKeys(*self.response_keys(response_nonce))

    def new_response_nonce(self, testing_nonce: bytes | None = None) -> bytes:
        """Fresh randomness; `testing_nonce` fixes it, for published vectors only."""
        if testing_nonce is None:
            return os.urandom(self.n_response_nonce)
        if len(testing_nonce) != self.n_response_nonce:
            raise LocalProtocolError(f"the response nonce has {self.n_response_nonce} bytes")
        return testing_nonce


class ChunkKeys:
    """A chunked response's cipher; the nonce of chunk i is the base nonce XOR i."""

    __slots__ = ("_aead", "_base", "_counter")

    def __init__(self, aead: Aead, nonce: bytes) -> None:
        self._aead = aead
        self._base = int.from_bytes(nonce)
        self._counter = 0

    def seal(self, chunk: Octets, aad: bytes) -> bytes:
        """The next chunk's ciphertext. Raises LocalProtocolError when the counter is used up."""
        return self._aead.encrypt(self._next_nonce(), chunk, aad)

    def open(self, ciphertext: Octets, aad: bytes) -> bytes:
        """The next chunk's plaintext. Raises DecryptionFailed."""
        try:
            return self._aead.decrypt(self._next_nonce(), ciphertext, aad)
        except InvalidTag:
            raise DecryptionFailed from None

    def _next_nonce(self) -> bytes:
        if self._counter >= _COUNTER_END:
            raise LocalProtocolError("the chunk counter of this response is used up")
        nonce = (self._base ^ self._counter).to_bytes(N_NONCE)
        self._counter += 1
        return nonce


def begin_request(
    labels: Labels, config: KeyConfig, suite: Suite | None, testing_ephemeral: PrivateKey | None
) -> tuple[bytes, SenderContext, Exchange]:
    """The client's side: header || enc, the sealing context, and the exchange.

    Without a suite the first one of the configuration that is known here. Raises UnsupportedSuite.
    """
    chosen = _first_known(config) if suite is None else suite
    config.check_offers(chosen)
    if chosen.aead == AEAD_EXPORT_ONLY:
        raise UnsupportedSuite("an export-only suite carries no request")
    header = encode_header(config.key_id, chosen)
    info = labels.request + b"\x00" + header
    enc, context = setup_sender(chosen, config.public_key, info, testing_ephemeral=testing_ephemeral)
    return header + enc, context, Exchange(labels, chosen, enc, context)


def encode_header(key_id: int, suite: Suite) -> bytes:
    """hdr: key identifier and three algorithm identifiers, 7 bytes."""
    return b"".join((key_id.to_bytes(1), *(i.to_bytes(2) for i in (suite.kem, suite.kdf, suite.aead))))


def select_key(header: bytes, lookup: KeyLookup) -> tuple[GatewayKey, Suite]:
    """The key and suite that a request's header names. Raises UnknownKey, UnsupportedSuite."""
    key = lookup(header[0])
    if key is None:
        raise UnknownKey(f"no key has identifier {header[0]}")
    kem_id, kdf_id, aead_id = (int.from_bytes(header[i : i + 2]) for i in (1, 3, 5))
    if kem_id != key.config.kem_id or aead_id == AEAD_EXPORT_ONLY:
        raise UnsupportedSuite("the key configuration does not offer this suite")
    return key, key.config.suite(kdf_id, aead_id)


def accept_request(
    labels: Labels, header: bytes, enc: bytes, key: GatewayKey, suite: Suite
) -> tuple[RecipientContext, Exchange]:
    """The gateway's side: the opening context, and the exchange. Raises DecryptionFailed."""
    context = setup_recipient(suite, enc, key.private_key, labels.request + b"\x00" + header)
    return context, Exchange(labels, suite, enc, context)


def _first_known(config: KeyConfig) -> Suite:
    for kdf_id, aead_id in config.suites:
        try:
            return Suite(config.kem_id, kdf_id, aead_id)
        except UnsupportedSuite:
            continue
    raise UnsupportedSuite("the key configuration offers no suite that is known here")
