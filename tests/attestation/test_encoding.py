"""Strict JSON, canonical JSON, base64url: what parses re-encodes identically, the rest is malformed."""

import json
from contextlib import suppress

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from attestation import MalformedEvidence
from attestation.encoding import b64url_decode, b64url_encode, canonical, canonical_json, strict_json

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.binary())
def test_base64url_round_trips(raw: bytes) -> None:
    assert b64url_decode(b64url_encode(raw)) == raw


@given(st.text(max_size=40))
def test_base64url_is_canonical_or_refused(text: str) -> None:
    try:
        raw = b64url_decode(text)
    except MalformedEvidence:
        return
    assert b64url_encode(raw) == text


@pytest.mark.parametrize("text", ["AA==", "AB", "A", "+/8", "AA\n", "AA AA", "é"])
def test_base64url_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(MalformedEvidence):
        b64url_decode(text)


@given(values)
def test_canonical_json_round_trips(value: object) -> None:
    try:
        raw = canonical(value)
    except ValueError:
        return  # a lone surrogate has no canonical form
    assert canonical_json(raw, limit=1 << 20) == value


@given(values)
def test_the_quick_form_is_the_one_of_the_rfc(value: object) -> None:
    try:
        expected = rfc8785.dumps(value)  # type: ignore[arg-type]
    except ValueError:
        with pytest.raises(ValueError):
            canonical(value)
        return
    assert canonical(value) == expected


@pytest.mark.parametrize(
    "value",
    [(1 << 53) - 1, -(1 << 53) + 1, '\x00\x1f\x7f"\\/\b\t', {"b": [True, None], "a": {}}, [], 1.0, {"é": 1}],
    ids=repr,
)
def test_borders_of_the_quick_form(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1 << 53, -(1 << 53), {1: 2}], ids=repr)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        canonical(value)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_arbitrary_bytes_raise_only_the_named_error(raw: bytes) -> None:
    for parse in (strict_json, canonical_json):
        with suppress(MalformedEvidence):
            parse(raw, limit=1 << 20)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2}',
        b"[1] ",
        b"[1]x",
        b"\xef\xbb\xbf[1]",
        b'"\xff"',
        b'"\\ud800"',
        b"[NaN]",
        b"[1e999]",
        b"[" * 40 + b"]" * 40,
        b"[" * 100_000,
        b"1" * 5000,
        b"",
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_loose_json_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        canonical_json(raw, limit=1 << 20)


def test_json_beyond_the_limit_is_refused() -> None:
    with pytest.raises(MalformedEvidence, match="exceeds"):
        strict_json(json.dumps("x" * 100).encode(), limit=50)


@pytest.mark.parametrize("raw", [b'{"b":1,"a":2}', b'{"a": 1}', b"[1.0]", b'"\\u0041"'])
def test_json_that_is_not_its_own_canonical_form_is_refused(raw: bytes) -> None:
    strict_json(raw, limit=100)
    with pytest.raises(MalformedEvidence):
        canonical_json(raw, limit=100)
