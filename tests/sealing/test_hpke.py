"""HPKE against the published vectors and against `cryptography`'s own one-shot HPKE."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hpke as reference
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st

from sealing import kem
from sealing.errors import DecryptionFailed, LocalProtocolError, MalformedMessage, UnsupportedSuite
from sealing.hpke import (
    AEAD_AES_256_GCM,
    AEAD_CHACHA20_POLY1305,
    AEAD_EXPORT_ONLY,
    KDF_HKDF_SHA256,
    KEM_MLKEM768_X25519,
    KEM_X25519,
    MLKEM768_X25519_AES256,
    X25519_AES128,
    PrivateKey,
    Suite,
    setup_recipient,
    setup_sender,
)
from sealing.kdf import expand
from tests.shared import shared

SUITES = [X25519_AES128, MLKEM768_X25519_AES256]
LOW_ORDER = bytes(32)


def _vectors() -> list[Any]:
    """Both files, flattened: one dict a vector."""
    found = []
    for vector in json.loads(shared("vectors", "hpke_rfc9180_base.json").read_text()):
        found.append({**vector["setup"], **{k: vector[k] for k in ("encryptions", "exports")}})
    found += json.loads(shared("vectors", "hpke_pq.json").read_text())
    ids = [f"{int(v['kem_id']):04x}-{int(v['kdf_id']):04x}-{int(v['aead_id']):04x}" for v in found]
    return [pytest.param(vector, id=name) for vector, name in zip(found, ids, strict=True)]


def _octets(vector: dict[str, Any], key: str) -> bytes:
    return bytes.fromhex(vector[key])


def _skip_unless_kem(vector: dict[str, Any]) -> int:
    kem_id = int(vector["kem_id"])
    if kem_id not in kem.KEMS:
        pytest.skip(f"KEM 0x{kem_id:04x} (DHKEM over P-256) is not one of this channel's KEMs")
    return kem_id


def _suite(vector: dict[str, Any]) -> Suite:
    kem_id, kdf_id = _skip_unless_kem(vector), int(vector["kdf_id"])
    if kdf_id != KDF_HKDF_SHA256:
        pytest.skip(f"KDF 0x{kdf_id:04x} (a SHAKE of draft-ietf-hpke-pq) is not one of this channel's KDFs")
    return Suite(kem_id, kdf_id, int(vector["aead_id"]))


@pytest.mark.parametrize("vector", _vectors())
def test_vector_decapsulation(vector: dict[str, Any]) -> None:
    private = PrivateKey.from_bytes(_skip_unless_kem(vector), _octets(vector, "skRm"))
    assert private.public_key == _octets(vector, "pkRm")
    assert private.decapsulate(_octets(vector, "enc")) == _octets(vector, "shared_secret")


@pytest.mark.parametrize("vector", _vectors())
def test_vector_opens_and_exports(vector: dict[str, Any]) -> None:
    suite = _suite(vector)
    private = PrivateKey.from_bytes(suite.kem, _octets(vector, "skRm"))
    context = setup_recipient(suite, _octets(vector, "enc"), private, _octets(vector, "info"))
    sequence = 0
    for one in vector["encryptions"]:
        context._sequence = sequence = int(one.get("sequence_number", sequence))
        assert context.open(_octets(one, "ct"), _octets(one, "aad")) == _octets(one, "pt")
        sequence += 1
    for one in vector["exports"]:
        assert context.export(_octets(one, "exporter_context"), int(one["L"])) == _octets(
            one, "exported_value"
        )


@pytest.mark.parametrize("vector", _vectors())
def test_vector_seals(vector: dict[str, Any]) -> None:
    suite = _suite(vector)
    if "skEm" not in vector:
        pytest.skip("the vector gives no ephemeral X25519 key, and ML-KEM encapsulation takes no randomness")
    ephemeral = PrivateKey.from_bytes(suite.kem, _octets(vector, "skEm"))
    enc, context = setup_sender(
        suite, _octets(vector, "pkRm"), _octets(vector, "info"), testing_ephemeral=ephemeral
    )
    assert enc == _octets(vector, "enc")
    for one in vector["encryptions"]:
        context._sequence = int(one["sequence_number"])
        assert context.seal(_octets(one, "pt"), _octets(one, "aad")) == _octets(one, "ct")


def _reference(suite: Suite, private: PrivateKey) -> tuple[reference.Suite, Any, Any]:
    aead = {
        0x0001: reference.AEAD.AES_128_GCM,
        0x0002: reference.AEAD.AES_256_GCM,
        0x0003: reference.AEAD.CHACHA20_POLY1305,
    }[suite.aead]
    if suite.kem == KEM_X25519:
        key = X25519PrivateKey.from_private_bytes(private.to_bytes())
        return reference.Suite(reference.KEM.X25519, reference.KDF.HKDF_SHA256, aead), key, key.public_key()
    assert private._mlkem is not None
    mlkem = MLKEM768PrivateKey.from_seed_bytes(private._mlkem.private_bytes_raw())
    hybrid = reference.MLKEM768X25519PrivateKey(mlkem, private._x25519)
    public = reference.MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(private.public_key[:1184]),
        X25519PublicKey.from_public_bytes(private.public_key[1184:]),
    )
    return reference.Suite(reference.KEM.MLKEM768_X25519, reference.KDF.HKDF_SHA256, aead), hybrid, public


@pytest.mark.parametrize("kem_id", [KEM_X25519, KEM_MLKEM768_X25519])
@pytest.mark.parametrize("aead_id", [0x0001, 0x0002, 0x0003])
def test_reference_implementation_both_ways(kem_id: int, aead_id: int) -> None:
    suite = Suite(kem_id, KDF_HKDF_SHA256, aead_id)
    private = PrivateKey.generate(kem_id)
    other, other_private, other_public = _reference(suite, private)
    enc, sender = setup_sender(suite, private.public_key, b"info")
    assert other.decrypt(enc + sender.seal(b"ours"), other_private, info=b"info") == b"ours"
    theirs = other.encrypt(b"theirs", other_public, info=b"info")
    recipient = setup_recipient(suite, theirs[: suite.n_enc], private, b"info")
    assert recipient.open(theirs[suite.n_enc :]) == b"theirs"


@settings(max_examples=25, deadline=None)
@given(
    suite=st.sampled_from(SUITES),
    info=st.binary(max_size=64),
    messages=st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=40)), max_size=5),
)
def test_round_trip(suite: Suite, info: bytes, messages: list[tuple[bytes, bytes]]) -> None:
    private = PrivateKey.generate(suite.kem)
    enc, sender = setup_sender(suite, private.public_key, info)
    recipient = setup_recipient(suite, enc, private, info)
    for plaintext, aad in messages:
        assert recipient.open(sender.seal(plaintext, aad), aad) == plaintext
    assert sender.export(b"context", 48) == recipient.export(b"context", 48)


@pytest.mark.parametrize("suite", SUITES)
def test_every_input_of_the_schedule_counts(suite: Suite) -> None:
    private = PrivateKey.generate(suite.kem)
    enc, sender = setup_sender(suite, private.public_key, b"info")
    ciphertext = sender.seal(b"text", b"aad")
    assert setup_recipient(suite, enc, private, b"info").open(ciphertext, b"aad") == b"text"
    flipped = bytes((enc[0] ^ 1,)) + enc[1:]
    other_aead = Suite(suite.kem, suite.kdf, AEAD_CHACHA20_POLY1305)
    for context in (
        setup_recipient(suite, enc, private, b"inf0"),
        setup_recipient(suite, flipped, private, b"info"),
        setup_recipient(suite, enc, PrivateKey.generate(suite.kem), b"info"),
        setup_recipient(other_aead, enc, private, b"info"),
    ):
        with pytest.raises(DecryptionFailed, match=r"^decryption failed$"):
            context.open(ciphertext, b"aad")
    with pytest.raises(DecryptionFailed, match=r"^decryption failed$"):
        setup_recipient(suite, enc, private, b"info").open(ciphertext, b"aae")


def test_a_failed_open_keeps_the_sequence_number() -> None:
    private = PrivateKey.generate(KEM_X25519)
    enc, sender = setup_sender(X25519_AES128, private.public_key, b"")
    recipient = setup_recipient(X25519_AES128, enc, private, b"")
    first, second = sender.seal(b"1"), sender.seal(b"2")
    with pytest.raises(DecryptionFailed):
        recipient.open(second)
    assert recipient.open(first) == b"1"
    assert recipient.open(second) == b"2"


def test_sequence_numbers_run_out() -> None:
    private = PrivateKey.generate(KEM_X25519)
    enc, sender = setup_sender(X25519_AES128, private.public_key, b"")
    recipient = setup_recipient(X25519_AES128, enc, private, b"")
    sender._sequence = recipient._sequence = (1 << 96) - 2
    last = sender.seal(b"last")
    assert recipient.open(last) == b"last"
    with pytest.raises(LocalProtocolError, match="used up"):
        sender.seal(b"one more")
    with pytest.raises(LocalProtocolError, match="used up"):
        recipient.open(last)


def test_low_order_points_are_refused() -> None:
    with pytest.raises(MalformedMessage, match="low order"):
        setup_sender(X25519_AES128, LOW_ORDER, b"")
    with pytest.raises(DecryptionFailed, match=r"^decryption failed$"):
        setup_recipient(X25519_AES128, LOW_ORDER, PrivateKey.generate(KEM_X25519), b"")
    hybrid = PrivateKey.generate(KEM_MLKEM768_X25519)
    with pytest.raises(MalformedMessage, match="low order"):
        setup_sender(MLKEM768_X25519_AES256, hybrid.public_key[:1184] + LOW_ORDER, b"")
    enc, _ = setup_sender(MLKEM768_X25519_AES256, hybrid.public_key, b"")
    with pytest.raises(DecryptionFailed, match=r"^decryption failed$"):
        setup_recipient(MLKEM768_X25519_AES256, enc[:1088] + LOW_ORDER, hybrid, b"")


@pytest.mark.parametrize("suite", SUITES)
def test_wrong_lengths_are_named(suite: Suite) -> None:
    private = PrivateKey.generate(suite.kem)
    enc, _ = setup_sender(suite, private.public_key, b"")
    for wrong in (private.public_key[:-1], private.public_key + b"\x00", b""):
        with pytest.raises(MalformedMessage, match="a public key of"):
            setup_sender(suite, wrong, b"")
    for wrong in (enc[:-1], enc + b"\x00", b""):
        with pytest.raises(MalformedMessage, match="an encapsulated key of"):
            setup_recipient(suite, wrong, private, b"")
    for size in (0, 31, 33, 64):
        with pytest.raises(LocalProtocolError, match="a private key of"):
            PrivateKey.from_bytes(suite.kem, bytes(size))


def test_mlkem_public_key_out_of_range() -> None:
    hybrid = PrivateKey.generate(KEM_MLKEM768_X25519)
    with pytest.raises(MalformedMessage, match="coefficient"):
        setup_sender(MLKEM768_X25519_AES256, b"\xff" * 1184 + hybrid.public_key[1184:], b"")


def test_unknown_algorithms() -> None:
    for ids in ((0x0010, 1, 1), (0x0020, 3, 1), (0x0020, 1, 4), (0xFFFF, 1, 1)):
        with pytest.raises(UnsupportedSuite):
            Suite(*ids)
    with pytest.raises(UnsupportedSuite):
        PrivateKey.generate(0x0010)


def test_export_only_suite_does_not_seal() -> None:
    private = PrivateKey.generate(KEM_X25519)
    suite = Suite(KEM_X25519, KDF_HKDF_SHA256, AEAD_EXPORT_ONLY)
    _, sender = setup_sender(suite, private.public_key, b"")
    assert len(sender.export(b"", 32)) == 32
    with pytest.raises(LocalProtocolError, match="export-only"):
        sender.seal(b"")


def test_export_length_is_bounded() -> None:
    _, sender = setup_sender(X25519_AES128, PrivateKey.generate(KEM_X25519).public_key, b"")
    assert len(sender.export(b"", 255 * 32)) == 255 * 32
    for length in (-1, 255 * 32 + 1):
        with pytest.raises(LocalProtocolError, match="an export has"):
            sender.export(b"", length)


@pytest.mark.parametrize("kem_id", [KEM_X25519, KEM_MLKEM768_X25519])
def test_private_key_hides_its_bytes_and_returns_them_on_request(kem_id: int) -> None:
    key = PrivateKey.generate(kem_id)
    raw = key.to_bytes()
    assert PrivateKey.from_bytes(kem_id, memoryview(bytearray(raw))).public_key == key.public_key
    assert repr(key) == str(key) == f"<PrivateKey {kem.KEMS[kem_id].name}>"
    with pytest.raises(TypeError):
        key.__reduce__()


def test_private_key_of_another_kem() -> None:
    key = PrivateKey.generate(KEM_X25519)
    with pytest.raises(LocalProtocolError, match="another KEM"):
        setup_recipient(MLKEM768_X25519_AES256, bytes(1120), key, b"")
    with pytest.raises(LocalProtocolError, match="fixed ephemeral"):
        hybrid = PrivateKey.generate(KEM_MLKEM768_X25519)
        setup_sender(MLKEM768_X25519_AES256, hybrid.public_key, b"", testing_ephemeral=key)


def test_encapsulation_is_randomised() -> None:
    for suite in SUITES:
        public = PrivateKey.generate(suite.kem).public_key
        assert setup_sender(suite, public, b"")[0] != setup_sender(suite, public, b"")[0]


@settings(deadline=None)
@given(prk=st.binary(min_size=32, max_size=32), info=st.binary(max_size=80), length=st.integers(1, 200))
def test_expand_is_hkdf_expand(prk: bytes, info: bytes, length: int) -> None:
    assert expand(prk, info, length) == HKDFExpand(SHA256(), length, info).derive(prk)


def test_suite_sizes() -> None:
    assert (X25519_AES128.n_enc, X25519_AES128.n_key) == (32, 16)
    assert (MLKEM768_X25519_AES256.n_enc, MLKEM768_X25519_AES256.n_key) == (1120, 32)
    assert MLKEM768_X25519_AES256.id == bytes.fromhex("48504b45647a00010002")
    assert MLKEM768_X25519_AES256.aead == AEAD_AES_256_GCM
