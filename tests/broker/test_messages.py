"""The protocol's messages against what `kbs-types` and the server parse, and against anything else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealing import kbs
from sealing.errors import MalformedMessage, RemoteProtocolError, UnsupportedSuite
from tests.broker.vectors import VECTORS

EXAMPLE = next(item["json"] for item in VECTORS["messages"] if item["kind"] == "Attestation")
KEY = EXAMPLE["runtime-data"]["tee-pubkey"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
KINDS: list[Any] = [kbs.Request, kbs.Challenge, kbs.Attestation, kbs.TokenResponse, kbs.ErrorInformation]


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda item: item["kind"])
def test_messages_of_the_protocol_parse_and_are_written_as_they_came(vector: dict[str, Any]) -> None:
    kind = getattr(kbs, vector["kind"])
    message = kind.from_bytes(json.dumps(vector["json"]).encode())
    assert json.loads(message.to_bytes()) == vector["json"]
    assert kind.from_bytes(message.to_bytes()) == message


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda item: item["kind"])
def test_a_member_that_is_missing_is_malformed_and_one_too_many_is_ignored(vector: dict[str, Any]) -> None:
    kind, table = getattr(kbs, vector["kind"]), vector["json"]
    more = kind.from_bytes(json.dumps(table | {"unknown": 1}).encode())
    assert more == kind.from_bytes(json.dumps(table).encode())
    for name in table.keys() - {"init-data"}:
        less = {key: value for key, value in table.items() if key != name}
        with pytest.raises(MalformedMessage, match=name):
            kind.from_bytes(json.dumps(less).encode())


def test_init_data_may_be_null_or_absent() -> None:
    for table in (EXAMPLE | {"init-data": None}, {k: v for k, v in EXAMPLE.items() if k != "init-data"}):
        message = kbs.Attestation.from_bytes(json.dumps(table).encode())
        assert message.init_data is None
        assert json.loads(message.to_bytes())["init-data"] is None


def test_only_what_the_server_parses_of_a_key_is_hashed() -> None:
    key = kbs.parse_public_key(KEY | {"kid": "mine", "use": "enc"})
    assert key.to_json() == KEY


@pytest.mark.parametrize(
    "change",
    [
        {"crv": "P-521"},
        {"alg": "ECDH-ES"},
        {"alg": "RSA1_5"},
        {"kty": "OKP"},
        {"kty": "RSA", "alg": "RSA1_5", "n": "AQAB", "e": "AQAB"},
    ],
    ids=str,
)
def test_other_algorithms_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(UnsupportedSuite):
        kbs.parse_public_key(KEY | change)


@pytest.mark.parametrize(
    "change",
    [
        {"x": KEY["y"]},
        {"x": KEY["x"] + "="},
        {"x": KEY["x"][:-2]},
        {"x": 7},
        {"kty": "RSA", "alg": "RSA-OAEP-256", "n": "AQAB", "e": "AQAB"},
    ],
    ids=str,
)
def test_what_is_no_key_is_malformed(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        kbs.parse_public_key(KEY | change)


def test_only_a_marked_challenge_is_ours() -> None:
    assert kbs.Challenge(nonce="n", extra_params={kbs.MARK: {"version": 1}}).marked
    assert not kbs.Challenge(nonce="n").marked
    assert not kbs.Challenge(nonce="n", extra_params=[kbs.MARK]).marked


@pytest.mark.parametrize("name", VECTORS["resources"]["accepted"])
def test_names_of_resources(name: str) -> None:
    assert str(kbs.ResourceId.parse(name)) == name
    assert kbs.ResourceId.parse(f"kbs:///{name}") == kbs.ResourceId.parse(name)


@pytest.mark.parametrize(
    "name", [*VECTORS["resources"]["refused"], "a/b/c\n", "a/b/c/d", "a/b/ü", "a/b/" + "c" * 129]
)
def test_what_is_no_name_of_a_resource(name: str) -> None:
    with pytest.raises(MalformedMessage):
        kbs.ResourceId.parse(name)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        b'{"token":"a","token":"b"}',
        b'{"token":"\\ud800"}',
        b'{"token":NaN}',
        b"\xff",
        b"[" * 9999,
    ],
    ids=repr,
)
def test_what_is_no_json_object_is_malformed(raw: bytes) -> None:
    for kind in KINDS:
        with pytest.raises(MalformedMessage):
            kind.from_bytes(raw)


@given(st.sampled_from(KINDS), st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_nothing_but_the_named_errors_escapes(kind: Any, raw: bytes) -> None:
    try:
        message = kind.from_bytes(raw)
    except RemoteProtocolError:
        return
    assert kind.from_bytes(message.to_bytes()) == message


@given(st.sampled_from(["runtime-data", "tee-evidence", "init-data", kbs.MARK]), JSON)
def test_attestations_with_one_member_replaced(name: str, value: Any) -> None:
    try:
        message = kbs.Attestation.from_bytes(json.dumps(EXAMPLE | {name: value}).encode())
    except RemoteProtocolError:
        return
    assert kbs.Attestation.from_bytes(message.to_bytes()) == message
