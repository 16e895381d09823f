"""COSE_Sign1 of ours: fixed vectors, a second implementation's reading, and every alteration refused."""

from contextlib import suppress

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from attestation import cose as readers
from sealing import cose
from sealing.errors import LocalProtocolError, MalformedDocument, SignatureRefused

ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
P384 = ec.derive_private_key(0x1234567, ec.SECP384R1())
KIND = "application/vnd.cloister.test+json"
# Made once by this code from the two keys above; the reader of attestation accepts the second.
VECTOR = bytes.fromhex(
    "d284584ba301270378226170706c69636174696f6e2f766e642e636c6f69737465722e746573742b6a736f6e045820"
)


@pytest.mark.parametrize("key", [ED25519, P384])
def test_what_is_signed_verifies_and_nothing_else_does(key: cose.SigningKey) -> None:
    raw = cose.sign(b'{"a":1}', KIND, key)
    message = cose.Sign1.from_bytes(raw, limit=len(raw))
    message.check(cose.Signer.of(key), KIND)
    assert message.payload == b'{"a":1}' and message.to_bytes() == raw
    for other in (P384, ED25519):
        if other is not key:
            with pytest.raises(SignatureRefused, match="another key"):
                message.check(cose.Signer.of(other), KIND)
    with pytest.raises(SignatureRefused, match="signed as"):
        message.check(cose.Signer.of(key), KIND + "x")


@pytest.mark.parametrize("key", [ED25519, P384])
def test_every_flipped_bit_is_refused(key: cose.SigningKey) -> None:
    raw = cose.sign(b"payload", KIND, key)
    for place in range(len(raw)):
        altered = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        with pytest.raises((MalformedDocument, SignatureRefused)):
            cose.Sign1.from_bytes(altered, limit=1000).check(cose.Signer.of(key), KIND)


def test_an_ed25519_signature_is_byte_for_byte_the_same() -> None:
    raw = cose.sign(b"payload", KIND, ED25519)
    assert raw.startswith(VECTOR)
    assert raw == VECTOR + cose.Signer.of(ED25519).hash + b"\xa0\x47payload" + b"\x58\x40" + raw[-64:]
    # RFC 8032 over RFC 9052's Sig_structure, spelled out here.
    protected = raw[4 : 4 + 0x4B]
    structure = b"\x84\x6aSignature1\x58\x4b" + protected + b"\x40" + b"\x47payload"
    assert raw[-64:] == ED25519.sign(structure)


def test_the_other_reader_accepts_what_this_signs() -> None:
    message = readers.Sign1.from_bytes(cose.sign(b"payload", KIND, P384), limit=1000)
    assert message.verified_by(P384.public_key(), readers.ES384)


@given(st.binary(max_size=200))
def test_only_the_named_error_escapes(raw: bytes) -> None:
    with suppress(MalformedDocument):
        assert cose.Sign1.from_bytes(raw, limit=200).to_bytes() == raw


def test_other_spellings_are_refused() -> None:
    raw = cose.sign(b"payload", KIND, ED25519)
    _, _, payload, signature = cbor2.loads(raw).value
    headers = cbor2.loads(cbor2.loads(raw).value[0])
    for other in (
        raw[1:],
        raw + b"\x00",
        b"\xd8\x12" + raw[1:],
        cbor2.dumps(cbor2.CBORTag(18, [cbor2.dumps(headers), {1: -8}, payload, signature])),
        cbor2.dumps(cbor2.CBORTag(18, [cbor2.dumps(headers | {2: [99]}), {}, payload, signature])),
        cbor2.dumps(cbor2.CBORTag(18, [cbor2.dumps(headers | {1: -7}), {}, payload, signature])),
        cbor2.dumps(cbor2.CBORTag(18, [cbor2.dumps(headers), {}, None, signature])),
        b"\xd8\x23\x63(a)",
        b"\x9f" * 1000,
    ):
        with pytest.raises(MalformedDocument):
            cose.Sign1.from_bytes(other, limit=2000)
    with pytest.raises(MalformedDocument, match="exceeds"):
        cose.Sign1.from_bytes(raw, limit=len(raw) - 1)


def test_other_keys_sign_nothing() -> None:
    with pytest.raises(LocalProtocolError):
        cose.sign(b"", KIND, rsa.generate_private_key(65537, 2048))  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError):
        cose.Signer.of(ec.generate_private_key(ec.SECP256R1()))
    spki = cose.Signer.of(ED25519).spki
    for bad in (b"", spki[:-1], spki + b"\x00"):
        with pytest.raises(MalformedDocument):
            cose.Signer(bad).key()
