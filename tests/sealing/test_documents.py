"""Documents in canonical JSON: what parses re-encodes identically, everything else is named and refused."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealing import documents
from sealing.artifact import ReleasedSecret
from sealing.errors import LocalProtocolError, MalformedDocument

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
SECRET = ReleasedSecret(key=b"k" * 32, manifest=b"m" * 32, owner=b"o" * 32, not_after=1_800_000_000)


@given(st.dictionaries(st.text(), values))
def test_documents_round_trip(table: dict[str, Any]) -> None:
    with suppress(LocalProtocolError):  # lone surrogates have no form
        raw = documents.encode(table)
        left = documents.decode(raw, "it", limit=len(raw))
        assert all(name in left for name in table)


@given(st.binary())
def test_only_the_named_error_escapes(raw: bytes) -> None:
    with suppress(MalformedDocument):
        documents.decode(raw, "it", limit=100)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b'{"b":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1e5}',
        b'{"a":NaN}',
        b'{"a":9007199254740993}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\u0041"}',
        b'{"a":1}\n',
        b"\xef\xbb\xbf{}",
        b"[]",
        b"[" * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_other_spellings_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedDocument):
        documents.decode(raw, "it", limit=1 << 20)


def test_members_name_what_is_wrong() -> None:
    def of(**table: Any) -> documents.Members:
        return documents.Members(table, "it")

    for wrong in (
        lambda: of().text("a", limit=3),
        lambda: of(a="").text("a", limit=3),
        lambda: of(a="long").text("a", limit=3),
        lambda: of(a="AB").octets("a"),
        lambda: of(a="AA==").octets("a"),
        lambda: of(a="AA").octets("a", 2),
        lambda: of(a=True).whole("a"),
        lambda: of(a=-1).whole("a"),
        lambda: of(a=1).flag("a"),
        lambda: of(a={}).sequence("a", limit=1),
        lambda: of(a=[1]).objects("a", limit=1),
        lambda: of(a=["b", "a"]).texts("a", limit=2, length=3),
        lambda: of(a=["a", "a"]).texts("a", limit=2, length=3),
        lambda: of(a="b").exactly("a", "c"),
        lambda: of(a=1).end(),
    ):
        with pytest.raises(MalformedDocument, match="it"):
            wrong()


def test_a_released_secret_has_one_form() -> None:
    raw = SECRET.to_bytes()
    assert raw == (
        b'{"format":"cloister/released-secret/v1","key":"a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s",'
        b'"manifest":"bW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW0","not_after":1800000000,'
        b'"owner":"b29vb29vb29vb29vb29vb29vb29vb29vb29vb29vb28"}'
    )
    assert ReleasedSecret.from_bytes(raw) == SECRET


def test_a_secret_shows_its_key_nowhere() -> None:
    assert "k" * 8 not in repr(SECRET) and "a2tr" not in repr(SECRET)
    for raw in (SECRET.to_bytes()[:-1], SECRET.to_bytes().replace(b'a2s"', b'a2t"')):
        with pytest.raises(MalformedDocument) as refused:
            ReleasedSecret.from_bytes(raw)
        assert "a2tr" not in str(refused.value)


@given(st.integers(0, 250), st.integers(0, 255))
def test_an_altered_secret_is_another_or_none(place: int, value: int) -> None:
    raw = bytearray(SECRET.to_bytes())
    raw[place % len(raw)] = value
    with suppress(MalformedDocument):
        assert ReleasedSecret.from_bytes(bytes(raw)).to_bytes() == raw
