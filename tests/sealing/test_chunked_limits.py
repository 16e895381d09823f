"""Chunked oblivious HTTP: bounded memory and named errors for any bytes."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealing.errors import (
    MessageTooLarge,
)
from sealing.hpke import X25519_AES128
from sealing.octets import encode_varint
from sealing.ohttp import (
    ChunkedRequestOpener,
    ChunkedRequestSealer,
)
from tests.sealing.streams import (
    DIRECTIONS,
    KEYS,
    Direction,
    lookup,
    read,
    refused,
    request,
    response,
)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_chunk_limit(direction: Direction) -> None:
    (head, one, last), fresh = direction([bytes(100), bytes(100)])
    assert read(fresh(max_chunk=100), [head, one, last]) == [bytes(100), bytes(100)]
    for pieces in ([head, one[:2]], [head, last]):
        fresh(max_chunk=100).feed(b"".join(pieces))
        with pytest.raises(MessageTooLarge):
            fresh(max_chunk=99).feed(b"".join(pieces))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_declared_lengths_do_not_allocate(direction: Direction) -> None:
    (head, *_), fresh = direction([b"x"])
    for declared in ((1 << 20) + 17, 1 << 30, (1 << 62) - 1):
        opener = fresh()
        opener.feed(head)
        tracemalloc.start()
        with pytest.raises(MessageTooLarge):
            opener.feed(encode_varint(declared))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50_000


def test_an_endless_final_chunk_is_cut_off() -> None:
    parts, _ = request([b"text"])
    opener = ChunkedRequestOpener(lookup, max_chunk=1 << 14)
    opener.feed(parts[0] + b"\x00")
    with pytest.raises(MessageTooLarge):
        for _ in range(20):
            opener.feed(bytes(1000))
    assert len(opener._buffer) == 0


@settings(max_examples=150, deadline=None)
@given(pieces=st.lists(st.binary(max_size=80), max_size=6), known=st.booleans())
def test_arbitrary_bytes_fail_by_name(pieces: list[bytes], known: bool) -> None:
    parts, fresh = response([b"x"])
    head = parts[0] if known else b""
    refused(fresh(), [head, *pieces])
    refused(ChunkedRequestOpener(lookup), [ChunkedRequestSealer(KEYS[X25519_AES128].config).header, *pieces])
    refused(ChunkedRequestOpener(lookup), pieces)
