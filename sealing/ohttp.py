"""Oblivious HTTP (RFC 9458), one message at a time; the chunked form is re-exported from `chunked`.

A request is header || enc || ciphertext, a response is nonce || ciphertext. The plaintext is binary HTTP.
"""

from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag

from .chunked import (
    MEDIA_TYPE_CHUNKED_REQUEST,
    MEDIA_TYPE_CHUNKED_RESPONSE,
    ChunkedRequestOpener,
    ChunkedRequestSealer,
    ChunkedResponseOpener,
    ChunkedResponseSealer,
)
from .encapsulation import HEADER_SIZE, ONE_SHOT, Exchange, accept_request, begin_request, select_key
from .errors import DecryptionFailed, TruncatedMessage
from .hpke import N_TAG, PrivateKey, Suite
from .keyconfig import (
    MEDIA_TYPE_KEYS,
    GatewayKey,
    KeyConfig,
    KeyLookup,
    decode_key_configs,
    encode_key_configs,
)
from .octets import Octets

__all__ = [
    "MEDIA_TYPE_CHUNKED_REQUEST",
    "MEDIA_TYPE_CHUNKED_RESPONSE",
    "MEDIA_TYPE_KEYS",
    "MEDIA_TYPE_REQUEST",
    "MEDIA_TYPE_RESPONSE",
    "ChunkedRequestOpener",
    "ChunkedRequestSealer",
    "ChunkedResponseOpener",
    "ChunkedResponseSealer",
    "Exchange",
    "GatewayKey",
    "KeyConfig",
    "KeyLookup",
    "OpenedRequest",
    "decode_key_configs",
    "encode_key_configs",
    "open_request",
    "open_response",
    "seal_request",
    "seal_response",
]

MEDIA_TYPE_REQUEST: Final = "message/ohttp-req"
MEDIA_TYPE_RESPONSE: Final = "message/ohttp-res"


@dataclass(frozen=True, slots=True)
class OpenedRequest:
    """A decrypted request: its key, its encapsulated key (unique to it), and what seals the response."""

    plaintext: bytes = field(repr=False)
    key_id: int
    enc: bytes
    exchange: Exchange


def seal_request(
    config: KeyConfig,
    plaintext: Octets,
    suite: Suite | None = None,
    *,
    testing_ephemeral: PrivateKey | None = None,
) -> tuple[bytes, Exchange]:
    """The encapsulated request, and what opens its response (RFC 9458, section 4.3).

    Raises UnsupportedSuite (not in the configuration), MalformedMessage (unusable public key).
    """
    head, context, exchange = begin_request(ONE_SHOT, config, suite, testing_ephemeral)
    return head + context.seal(plaintext), exchange


def open_request(lookup: KeyLookup, message: Octets) -> OpenedRequest:
    """A request out of its seal (RFC 9458, section 4.3).

    Raises TruncatedMessage, UnknownKey, UnsupportedSuite, DecryptionFailed.
    """
    if len(message) < HEADER_SIZE:
        raise TruncatedMessage("the request stops inside its header")
    header = bytes(message[:HEADER_SIZE])
    key, suite = select_key(header, lookup)
    body = HEADER_SIZE + suite.n_enc
    if len(message) < body + N_TAG:
        raise TruncatedMessage("the request stops before its ciphertext is whole")
    enc = bytes(message[HEADER_SIZE:body])
    context, exchange = accept_request(ONE_SHOT, header, enc, key, suite)
    plaintext = context.open(memoryview(message)[body:])
    return OpenedRequest(plaintext, key.config.key_id, enc, exchange)


def seal_response(exchange: Exchange, plaintext: Octets, *, testing_nonce: bytes | None = None) -> bytes:
    """The encapsulated response (RFC 9458, section 4.4), under a fresh nonce."""
    response_nonce = exchange.new_response_nonce(testing_nonce)
    aead, nonce = exchange.response_keys(response_nonce)
    return response_nonce + aead.encrypt(nonce, plaintext, b"")


def open_response(exchange: Exchange, message: Octets) -> bytes:
    """The plaintext of a response (RFC 9458, section 4.4). Raises TruncatedMessage, DecryptionFailed."""
    size = exchange.n_response_nonce
    if len(message) < size + N_TAG:
        raise TruncatedMessage("the response stops before its ciphertext is whole")
    aead, nonce = exchange.response_keys(bytes(message[:size]))
    try:
        return aead.decrypt(nonce, memoryview(message)[size:], b"")
    except InvalidTag:
        raise DecryptionFailed from None
