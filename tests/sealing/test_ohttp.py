"""Oblivious HTTP in one piece: the RFC's example, key configurations, round trips, named errors."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealing.bhttp import decode_request, decode_response
from sealing.errors import (
    DecryptionFailed,
    LocalProtocolError,
    MalformedMessage,
    MessageTooLarge,
    RemoteProtocolError,
    TruncatedMessage,
    UnknownKey,
    UnsupportedSuite,
)
from sealing.hpke import (
    AEAD_CHACHA20_POLY1305,
    AEAD_EXPORT_ONLY,
    KDF_HKDF_SHA256,
    KEM_MLKEM768_X25519,
    KEM_X25519,
    MLKEM768_X25519_AES256,
    X25519_AES128,
    PrivateKey,
    Suite,
)
from sealing.ohttp import (
    GatewayKey,
    KeyConfig,
    decode_key_configs,
    encode_key_configs,
    open_request,
    open_response,
    seal_request,
    seal_response,
)
from tests.shared import shared

SUITES = [X25519_AES128, MLKEM768_X25519_AES256, Suite(KEM_X25519, KDF_HKDF_SHA256, AEAD_CHACHA20_POLY1305)]
KEYS = {suite: GatewayKey.generate(7, suite) for suite in SUITES}
MANY = GatewayKey.generate(9, X25519_AES128, SUITES[2])


def only(key: GatewayKey) -> Any:
    """A lookup that knows one key."""
    return lambda key_id: key if key_id == key.config.key_id else None


def vector(name: str) -> tuple[dict[str, Any], GatewayKey]:
    values = json.loads(shared("vectors", name).read_text())
    config = KeyConfig.decode(bytes.fromhex(values["key_config"]))
    key = PrivateKey.from_bytes(config.kem_id, bytes.fromhex(values["gateway_secret_key"]))
    return values, GatewayKey(config, key)


def test_rfc_example_is_reproduced_and_opened() -> None:
    values, key = vector("ohttp_rfc9458.json")
    assert key.config.encode().hex() == values["key_config"]
    assert key.config.suites == ((1, 1), (1, 3))
    ephemeral = PrivateKey.from_bytes(KEM_X25519, bytes.fromhex(values["ephemeral_secret_key"]))
    request = bytes.fromhex(values["request_bhttp"])
    sealed, client = seal_request(key.config, request, X25519_AES128, testing_ephemeral=ephemeral)
    assert sealed.hex() == values["encapsulated_request"]
    assert client.enc.hex() == values["ephemeral_public_key"]
    opened = open_request(only(key), sealed)
    assert (opened.plaintext, opened.key_id, opened.enc) == (request, 1, client.enc)
    assert decode_request(request).authority == "example.com"

    response = bytes.fromhex(values["response_bhttp"])
    nonce = bytes.fromhex(values["salt"])[32:]
    answer = seal_response(opened.exchange, response, testing_nonce=nonce)
    assert answer.hex() == values["encapsulated_response"]
    assert open_response(client, answer) == response
    assert decode_response(response).status == 200
    exported = client.context.export(b"message/bhttp response", 16)
    assert exported.hex() == values["exported_secret"]


@pytest.mark.parametrize("suite", SUITES)
def test_round_trip_and_sizes(suite: Suite) -> None:
    key = KEYS[suite]
    sealed, client = seal_request(key.config, b"question")
    assert len(sealed) == 7 + suite.n_enc + len(b"question") + 16
    opened = open_request(only(key), sealed)
    assert opened.plaintext == b"question"
    assert "question" not in repr(opened)
    answer = seal_response(opened.exchange, b"answer")
    assert len(answer) == max(12, suite.n_key) + len(b"answer") + 16
    assert open_response(client, answer) == b"answer"


@pytest.mark.parametrize("suite", SUITES)
def test_any_flip_of_a_request_is_an_error(suite: Suite) -> None:
    key = KEYS[suite]
    sealed, _ = seal_request(key.config, b"question")
    for position in {*range(48), *range(7, len(sealed), 41), *range(len(sealed) - 24, len(sealed))}:
        altered = bytearray(sealed)
        altered[position] ^= 0x01
        with pytest.raises((DecryptionFailed, UnknownKey, UnsupportedSuite)):
            open_request(only(key), altered)
    for size in range(len(sealed)):
        with pytest.raises((TruncatedMessage, DecryptionFailed)):
            open_request(only(key), sealed[:size])


def test_any_flip_or_cut_of_a_response_is_an_error() -> None:
    sealed, client = seal_request(KEYS[X25519_AES128].config, b"question")
    opened = open_request(only(KEYS[X25519_AES128]), sealed)
    answer = seal_response(opened.exchange, b"answer")
    for position in range(len(answer)):
        altered = bytearray(answer)
        altered[position] ^= 0x80
        with pytest.raises(DecryptionFailed, match=r"^decryption failed$"):
            open_response(client, altered)
        with pytest.raises((TruncatedMessage, DecryptionFailed)):
            open_response(client, answer[:position])
    with pytest.raises(DecryptionFailed):
        open_response(client, answer + b"\x00")


def test_a_response_belongs_to_its_request() -> None:
    key = KEYS[MLKEM768_X25519_AES256]
    (first, client), (second, _) = (seal_request(key.config, b"question") for _ in range(2))
    answer = seal_response(open_request(only(key), second).exchange, b"answer")
    with pytest.raises(DecryptionFailed):
        open_response(client, answer)
    assert open_request(only(key), first).enc != open_request(only(key), second).enc


def test_unknown_key_and_suites() -> None:
    sealed, _ = seal_request(MANY.config, b"question")
    assert open_request(only(MANY), sealed).plaintext == b"question"
    with pytest.raises(UnknownKey, match="identifier 10"):
        open_request(only(MANY), b"\x0a" + sealed[1:])
    for header in ("0900200001 0002", "0900200003 0001", "09647a0001 0001", "0900200001 ffff"):
        with pytest.raises(UnsupportedSuite, match="does not offer"):
            open_request(only(MANY), bytes.fromhex(header) + sealed[7:])
    with pytest.raises(UnsupportedSuite):
        seal_request(MANY.config, b"", MLKEM768_X25519_AES256)
    with pytest.raises(UnsupportedSuite):
        seal_request(MANY.config, b"", Suite(KEM_X25519, KDF_HKDF_SHA256, 2))


def test_suites_that_are_offered_but_not_usable_here() -> None:
    public = PrivateKey.generate(KEM_X25519).public_key
    mixed = KeyConfig(1, KEM_X25519, public, ((3, 3), (1, 3)))
    assert seal_request(mixed, b"")[1].suite.aead == AEAD_CHACHA20_POLY1305
    with pytest.raises(UnsupportedSuite, match="known here"):
        seal_request(KeyConfig(1, KEM_X25519, public, ((3, 3), (1, 9))), b"")
    with pytest.raises(UnsupportedSuite, match="export-only"):
        seal_request(KeyConfig(1, KEM_X25519, public, ((1, AEAD_EXPORT_ONLY),)), b"")


def test_response_nonce_of_another_length() -> None:
    _, client = seal_request(MANY.config, b"")
    with pytest.raises(LocalProtocolError, match="16 bytes"):
        seal_response(client, b"", testing_nonce=bytes(15))


@st.composite
def key_configs(draw: st.DrawFn) -> KeyConfig:
    kem_id, size = draw(st.sampled_from([(KEM_X25519, 32), (KEM_MLKEM768_X25519, 1216)]))
    public = draw(st.binary(min_size=4, max_size=4)) * (size // 4)
    identifier = st.integers(0, 0xFFFF)
    suites = draw(st.lists(st.tuples(identifier, identifier), min_size=1, max_size=4))
    return KeyConfig(draw(st.integers(0, 255)), kem_id, public, tuple(suites))


@settings(max_examples=60, deadline=None)
@given(st.lists(key_configs(), max_size=4))
def test_key_configurations_round_trip(configs: list[KeyConfig]) -> None:
    assert decode_key_configs(encode_key_configs(configs)) == tuple(configs)
    for config in configs:
        assert KeyConfig.decode(config.encode()) == config


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_altered_key_configurations_parse_to_themselves_or_fail_by_name(data: st.DataObject) -> None:
    raw = bytearray(data.draw(key_configs()).encode())
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    try:
        config = KeyConfig.decode(raw)
    except (MalformedMessage, UnsupportedSuite):
        return
    assert config.encode() == raw


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_fail_by_name(raw: bytes) -> None:
    for parse in (KeyConfig.decode, decode_key_configs, lambda m: open_request(only(MANY), m)):
        try:
            parse(raw)
        except RemoteProtocolError:
            continue
        assert parse is decode_key_configs


def test_unknown_kems_in_a_list_are_skipped() -> None:
    known = KEYS[X25519_AES128].config
    unknown = bytes.fromhex("05 0010") + bytes(65) + bytes.fromhex("0004 0001 0001")
    entry = len(unknown).to_bytes(2) + unknown
    assert decode_key_configs(entry + encode_key_configs([known]) + entry) == (known,)
    with pytest.raises(UnsupportedSuite, match="0x0010"):
        KeyConfig.decode(unknown)


def test_malformed_lists() -> None:
    body = encode_key_configs([MANY.config])
    assert decode_key_configs(b"") == ()
    for size in range(1, len(body)):
        with pytest.raises(MalformedMessage):
            decode_key_configs(body[:size])
    for wrong in (body + b"\x00", b"\x00\x00", b"\x00\x02\x01\x00", body[:-2] + b"\xff"):
        with pytest.raises(MalformedMessage):
            decode_key_configs(wrong)
    with pytest.raises(MessageTooLarge):
        decode_key_configs(body, limit=len(body) - 1)
    assert decode_key_configs(body, limit=len(body)) == (MANY.config,)


def test_a_key_configuration_offers_whole_suites() -> None:
    public = bytes.fromhex("01 0020") + bytes(32)
    assert KeyConfig.decode(public + bytes.fromhex("0004 0001 0001")).suites == ((1, 1),)
    for pairs in ("0000", "0002 0001", "0005 0001 0001 00", "0006 0001 0001 0001", "0003 0001 0001"):
        with pytest.raises(MalformedMessage):
            KeyConfig.decode(public + bytes.fromhex(pairs))


def test_key_configurations_refuse_nonsense() -> None:
    public = PrivateKey.generate(KEM_X25519).public_key
    for key_id, raw, suites in ((256, public, ((1, 1),)), (1, public[1:], ((1, 1),)), (1, public, ())):
        with pytest.raises(LocalProtocolError):
            KeyConfig(key_id, KEM_X25519, raw, suites)
    with pytest.raises(LocalProtocolError):
        KeyConfig(1, KEM_X25519, public, ((1, 0x10000),))
    with pytest.raises(LocalProtocolError, match="does not belong"):
        GatewayKey(MANY.config, PrivateKey.generate(KEM_X25519))
    with pytest.raises(LocalProtocolError, match="share its KEM"):
        GatewayKey.generate(1, X25519_AES128, MLKEM768_X25519_AES256)
    assert GatewayKey.generate(1).config.kem_id == KEM_MLKEM768_X25519
    assert MANY.private_key.to_bytes().hex() not in repr(MANY)
