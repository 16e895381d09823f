"""Binary HTTP: limits hold, whatever is declared, and content is not kept."""

import tracemalloc
from dataclasses import replace

import pytest

from sealing import bhttp
from sealing.bhttp import (
    Data,
    Informational,
    Limits,
    Request,
    RequestDecoder,
    Response,
    ResponseDecoder,
    ResponseEncoder,
)
from sealing.errors import (
    MessageTooLarge,
)
from sealing.octets import encode_varint
from tests.sealing.messages import forms


def test_limits() -> None:
    limits = Limits(control=9, section=20, fields=2, informational=1, body=10)
    small = Request("GET", "https", "", "/", ((b"a", b"b"), (b"c", b"d")), bytes(10))
    for raw in forms(small):
        assert bhttp.decode_request(raw, limits=limits) == small
    for large in (
        replace(small, path="/" + "a" * 20),
        replace(small, method="GETGETGE"),
        replace(small, headers=((b"a", b"b" * 10), (b"a", b"b" * 9))),
        replace(small, headers=((b"a", b"b" * 20),)),
        replace(small, headers=((b"a", b"b"),) * 3),
        replace(small, body=bytes(11)),
        replace(small, trailers=((b"a", b"b"),) * 3),
    ):
        for raw in forms(large):
            assert bhttp.decode_request(raw) == large
            with pytest.raises(MessageTooLarge):
                bhttp.decode_request(raw, limits=limits)
    two = Response(200, informational=(Informational(103), Informational(103)))
    for raw in forms(two):
        assert bhttp.decode_response(raw) == two
        with pytest.raises(MessageTooLarge):
            bhttp.decode_response(raw, limits=limits)


def test_body_limit_counts_all_chunks() -> None:
    encoder = ResponseEncoder()
    raw = encoder.head(200) + encoder.data(bytes(6)) + encoder.data(bytes(6)) + encoder.end()
    assert len(bhttp.decode_response(raw, limits=Limits(body=12)).body) == 12
    with pytest.raises(MessageTooLarge):
        bhttp.decode_response(raw, limits=Limits(body=11))


@pytest.mark.parametrize("declared", [1 << 27, (1 << 62) - 1])
def test_declared_lengths_do_not_allocate(declared: int) -> None:
    length = encode_varint(declared)
    control = bytes.fromhex("03474554056874747073 00012f")
    for raw in (
        b"\x00" + length,
        b"\x00" + control + length,
        b"\x00" + control + b"\x00" + length,
        b"\x02" + control + length,
        b"\x02" + control + b"\x01a" + length,
        b"\x02" + control + b"\x00" + length,
    ):
        tracemalloc.start()
        with pytest.raises(MessageTooLarge):
            RequestDecoder().feed(raw)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50_000


def test_a_long_body_passes_through_without_being_kept() -> None:
    decoder, encoder = ResponseDecoder(), ResponseEncoder()
    decoder.feed(encoder.head(200))
    piece = encoder.data(bytes(10_000))
    tracemalloc.start()
    total = 0
    for _ in range(1000):
        total += sum(len(event.data) for event in decoder.feed(piece) if isinstance(event, Data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 10_000_000
    assert peak < 500_000
