"""Receipts as bytes: fixed vectors, the strict parser, what a streamed answer's commitment covers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sealing import cose
from sealing.errors import MalformedDocument, MalformedMessage, SealingError, SignatureRefused
from sealing.receipts import (
    ASKED,
    CONTENT_TYPE,
    Commitment,
    EventText,
    Named,
    Receipt,
    Salts,
    SignedReceipt,
    asked_for,
    asking,
    commitment,
    from_trailers,
    period_nonce,
    period_of,
    to_trailers,
)

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
SALTS = Salts(request=b"\x01" * 32, response=b"\x02" * 32)
RECEIPT = Receipt(
    keyset=b"\x0a" * 32,
    workload=b"\x0b" * 32,
    model=Named(name="faq", root=b"\x0c" * 32),
    adapter=None,
    policies=(),
    consent="",
    path="/v1/chat/completions",
    request=commitment(b"{}", SALTS.request),
    response=commitment(b"[]", SALTS.response),
    prompt_tokens=8,
    completion_tokens=48,
    time=1_795_641_551,
)


def signed(receipt: Receipt) -> bytes:
    return cose.sign(receipt.to_bytes(), CONTENT_TYPE, KEY)


def test_the_fixed_vectors_hold() -> None:
    """Ed25519 is deterministic, so that the whole signed file is a vector."""
    assert VECTORS["public_key"] == PUBLIC.hex()
    for name, receipt in (("plain", RECEIPT), ("adapter", adapted())):
        raw = bytes.fromhex(VECTORS[name]["signed"])
        assert VECTORS[name]["payload"].encode() == receipt.to_bytes()
        assert signed(receipt) == raw
        parsed = SignedReceipt.from_bytes(raw)
        parsed.check(PUBLIC)
        assert parsed.receipt == receipt
    assert VECTORS["period_nonce"] == {str(RECEIPT.period): period_nonce(RECEIPT.period).hex()}


def adapted() -> Receipt:
    adapter = Named(name="sailor", root=b"\x0d" * 32)
    return replace(RECEIPT, adapter=adapter, policies=("issuer:sha256:00",), consent="sha256:11")


@given(st.data())
def test_a_flipped_byte_is_malformed_or_not_signed(data: st.DataObject) -> None:
    raw = bytearray(signed(adapted()))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((MalformedDocument, SignatureRefused)):
        SignedReceipt.from_bytes(bytes(raw)).check(PUBLIC)


@given(st.binary(max_size=200))
def test_nothing_but_the_named_errors_escapes(raw: bytes) -> None:
    for parse in (SignedReceipt.from_bytes, Receipt.from_bytes, Salts.from_bytes):
        with pytest.raises(SealingError):
            parse(raw)


@given(st.integers(0, 2**37), st.integers(0, 2**53 - 1), st.sets(st.text(min_size=1, max_size=9)))
def test_what_parses_reencodes_identically(time: int, tokens: int, policies: set[str]) -> None:
    receipt = replace(RECEIPT, time=time, completion_tokens=tokens, policies=tuple(sorted(policies)))
    assert Receipt.from_bytes(receipt.to_bytes()) == receipt
    assert SignedReceipt.from_bytes(signed(receipt)).receipt == receipt


@pytest.mark.parametrize(
    "change",
    [
        {"time": 2**53 - 1},
        {"time": -1},
        {"keyset": "AA"},
        {"policies": ["b", "a"]},
        {"extra": 1},
        {"format": "cloister/receipt/v2"},
        {"model": {"name": "faq", "root": "AB" * 32}},
        {"path": ""},
        {"completion_tokens": 1.5},
        {"completion_tokens": True},
    ],
)
def test_another_value_than_the_format_has_is_malformed(change: dict[str, object]) -> None:
    import rfc8785

    table = json.loads(RECEIPT.to_bytes()) | change
    with pytest.raises(MalformedDocument):
        Receipt.from_bytes(rfc8785.dumps(table))


def test_a_document_of_another_type_is_no_receipt() -> None:
    with pytest.raises(MalformedDocument, match="not a receipt"):
        SignedReceipt.from_bytes(cose.sign(RECEIPT.to_bytes(), "text/x", KEY))


@given(st.lists(st.binary(max_size=12)))
def test_a_commitment_does_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    whole = Commitment(SALTS.response)
    for piece in pieces:
        whole.feed(piece)
    assert whole.digest() == commitment(b"".join(pieces), SALTS.response)


class Kept(bytearray):
    def feed(self, piece: bytes) -> None:
        self += piece


def events(stream: bytes, size: int) -> bytes:
    kept = Kept()
    text = EventText(kept)
    for start in range(0, len(stream), size):
        text.feed(stream[start : start + size])
    text.close()
    return bytes(kept)


@given(st.integers(1, 30), st.integers(4, 9))
def test_padding_is_not_committed_to(size: int, filling: int) -> None:
    comment = b": " + b"." * filling + b"\n\n"
    stream = b"event: x\ndata: 1\n\ndata: 2\n\n"
    padded = comment + b"event: x\ndata: 1\n\n" + comment + b"data: 2\n\n" + comment
    assert events(padded, size) == events(stream, size) == stream


def test_the_request_names_one_keyset_and_nothing_else_counts() -> None:
    assert asked_for(()) is None
    assert asked_for((asking(b"\x01" * 32),)) == b"\x01" * 32
    for value in (b"", b"yes", b"AA", asking(b"\x01" * 32)[1] + b"="):
        with pytest.raises(MalformedMessage):
            asked_for(((ASKED, value),))
    with pytest.raises(MalformedMessage):
        asked_for((asking(b"\x01" * 32), asking(b"\x01" * 32)))


def test_trailers_carry_receipt_and_salts_or_nothing() -> None:
    trailers = to_trailers(signed(RECEIPT), SALTS)
    found = from_trailers(trailers)
    assert found is not None
    assert (found[0].receipt, found[1]) == (RECEIPT, SALTS)
    assert from_trailers(()) is None
    for broken in (trailers[:1], trailers[1:], ((trailers[0][0], b"AAAA"), trailers[1])):
        with pytest.raises(MalformedMessage):
            from_trailers(broken)


def test_periods_are_hours() -> None:
    assert period_of(3599) == 0
    assert period_of(3600) == 3600
    assert period_nonce(0) != period_nonce(3600)


def test_secrets_stay_out_of_repr() -> None:
    assert "\\x01" not in repr(SALTS)
    assert Salts.from_bytes(SALTS.to_bytes()) == SALTS
