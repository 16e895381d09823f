"""Sealed streams, cut into their parts, and what reading them gives."""

from collections.abc import Callable
from functools import partial

import pytest

from sealing.errors import (
    RemoteProtocolError,
)
from sealing.hpke import MLKEM768_X25519_AES256, X25519_AES128, Suite
from sealing.ohttp import (
    ChunkedRequestOpener,
    ChunkedRequestSealer,
    ChunkedResponseOpener,
    GatewayKey,
)

SUITES = [X25519_AES128, MLKEM768_X25519_AES256]
KEYS = {suite: GatewayKey.generate(3, suite) for suite in SUITES}
Opener = ChunkedRequestOpener | ChunkedResponseOpener
Stream = tuple[list[bytes], Callable[..., Opener]]
Direction = Callable[..., Stream]


def lookup(key_id: int) -> GatewayKey | None:
    return KEYS[X25519_AES128] if key_id == 3 else None


def request(chunks: list[bytes], suite: Suite = X25519_AES128) -> Stream:
    """A request as its parts (header, framed chunks), and what makes a fresh opener for it."""
    key = KEYS[suite]
    sealer = ChunkedRequestSealer(key.config, suite)
    parts = [sealer.header] + [sealer.seal(c, final=i == len(chunks) - 1) for i, c in enumerate(chunks)]
    return parts, partial(ChunkedRequestOpener, lambda key_id: key if key_id == 3 else None)


def response(chunks: list[bytes], suite: Suite = X25519_AES128) -> Stream:
    """A response as its parts (nonce, framed chunks), and what makes a fresh opener for it."""
    client = ChunkedRequestSealer(KEYS[suite].config, suite)
    gateway = ChunkedRequestOpener(lambda _: KEYS[suite])
    gateway.feed(client.header)
    sealer = gateway.response_sealer()
    parts = [sealer.header] + [sealer.seal(c, final=i == len(chunks) - 1) for i, c in enumerate(chunks)]
    return parts, client.response_opener


DIRECTIONS = [request, response]


def read(opener: Opener, pieces: list[bytes]) -> list[bytes]:
    """Every plaintext of a stream that ends after `pieces`."""
    plaintexts = [plaintext for piece in pieces for plaintext in opener.feed(piece)]
    return plaintexts + opener.close()


def refused(opener: Opener, pieces: list[bytes]) -> list[bytes]:
    """What is delivered before the stream is refused; it never counts as finished, and stays refused."""
    delivered: list[bytes] = []
    with pytest.raises(RemoteProtocolError) as first:
        for piece in pieces:
            delivered += opener.feed(piece)
        opener.close()
    assert not opener.finished
    for again in (opener.close, lambda: opener.feed(b""), lambda: opener.feed(b"more")):
        with pytest.raises(type(first.value), match=str(first.value)):
            again()
    assert not opener.finished
    return delivered
