"""Resources as JWE: judged by two other libraries, and opened the way guest-components opens them."""

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from hypothesis import given
from hypothesis import strategies as st

from sealing import kbs
from sealing.errors import DecryptionFailed, RemoteProtocolError
from sealing.kbs.reading import decode, encode
from tests.broker.vectors import VECTORS

SECRET = b"a key of some length, and not a multiple of sixteen"
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")


@pytest.fixture(scope="module")
def pair() -> kbs.TeeKeyPair:
    return kbs.TeeKeyPair.generate()


def test_joserfc_opens_it(pair: kbs.TeeKeyPair) -> None:
    assert kbs.open_response(kbs.seal_response(SECRET, pair.public), pair) == SECRET


def test_jwcrypto_opens_it(pair: kbs.TeeKeyPair) -> None:
    from jwcrypto import jwe, jwk

    token = jwe.JWE()
    token.deserialize(kbs.seal_response(SECRET, pair.public).decode(), jwk.JWK.from_pyca(pair.private))
    assert token.payload == SECRET


def test_what_jwcrypto_seals_is_opened(pair: kbs.TeeKeyPair) -> None:
    from jwcrypto import jwe, jwk

    header = json.dumps({"alg": "ECDH-ES+A256KW", "enc": "A256GCM"})
    public = jwk.JWK.from_pyca(pair.private.public_key())
    token = jwe.JWE(SECRET, protected=header, recipient=public)
    protected, encrypted_key, iv, ciphertext, tag = token.serialize(compact=True).split(".")
    flat = {
        "protected": protected,
        "encrypted_key": encrypted_key,
        "iv": iv,
        "ciphertext": ciphertext,
        "tag": tag,
    }
    assert kbs.open_response(json.dumps(flat).encode(), pair) == SECRET


def test_a_client_that_writes_the_header_anew_opens_it(pair: kbs.TeeKeyPair) -> None:
    """guest-components: parse the header, write it with its other members by name, take that as AAD."""
    found = json.loads(kbs.seal_response(SECRET, pair.public))
    header = json.loads(decode(found["protected"], "header"))
    others = {name: dict(sorted(header[name].items())) for name in sorted(header.keys() - {"alg", "enc"})}
    rewritten = json.dumps({"alg": header["alg"], "enc": header["enc"], **others}, separators=(",", ":"))
    aad = encode(rewritten.encode()).encode()
    x, y = (int.from_bytes(decode(header["epk"][name], name), "big") for name in "xy")
    z = pair.private.exchange(ec.ECDH(), ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key())
    info = b"\0\0\0\x0eECDH-ES+A256KW" + bytes(8) + b"\0\0\x01\0"
    cek = aes_key_unwrap(
        ConcatKDFHash(hashes.SHA256(), 32, info).derive(z), decode(found["encrypted_key"], "k")
    )
    iv, sealed = decode(found["iv"], "iv"), decode(found["ciphertext"], "c") + decode(found["tag"], "t")
    assert AESGCM(cek).decrypt(iv, sealed, aad) == SECRET
    assert header["epk"].keys() == {"crv", "kty", "x", "y"}
    assert found.keys() == {"protected", "encrypted_key", "iv", "ciphertext", "tag"}


def test_the_protected_header_is_written_as_kbs_types_writes_it() -> None:
    vector = VECTORS["protected_header"]
    text = json.dumps(vector["json"], separators=(",", ":"))
    assert encode(text.encode()) == vector["aad"]


@pytest.mark.parametrize("bits", [2048, 3072])
def test_rsa_keys_of_other_clients(bits: int) -> None:
    from joserfc import jwe
    from joserfc.jwk import RSAKey

    private = rsa.generate_private_key(65537, bits)
    numbers = private.public_key().public_numbers()
    key = kbs.RsaPublicKey(numbers.n.to_bytes(bits // 8, "big"), b"\1\0\1")
    assert kbs.parse_public_key(key.to_json()) == key
    found = json.loads(kbs.seal_response(SECRET, key))
    compact = ".".join(found[name] for name in ("protected", "encrypted_key", "iv", "ciphertext", "tag"))
    registry = jwe.JWERegistry(algorithms=["RSA-OAEP-256", "A256GCM"])
    assert jwe.decrypt_compact(compact, RSAKey(private, private), registry=registry).plaintext == SECRET


def test_two_responses_have_nothing_in_common(pair: kbs.TeeKeyPair) -> None:
    one, two = (json.loads(kbs.seal_response(SECRET, pair.public)) for _ in range(2))
    assert all(one[name] != two[name] for name in one)


def test_another_key_does_not_open_it(pair: kbs.TeeKeyPair) -> None:
    with pytest.raises(DecryptionFailed):
        kbs.open_response(kbs.seal_response(SECRET, pair.public), kbs.TeeKeyPair.generate())


@pytest.mark.parametrize("name", ["protected", "encrypted_key", "iv", "ciphertext", "tag"])
def test_any_part_altered_is_refused(pair: kbs.TeeKeyPair, name: str) -> None:
    found = json.loads(kbs.seal_response(SECRET, pair.public))
    raw = bytearray(decode(found[name], name))
    raw[len(raw) // 2] ^= 1
    with pytest.raises(RemoteProtocolError):
        kbs.open_response(json.dumps(found | {name: encode(bytes(raw))}).encode(), pair)


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "dir"},
        {"alg": "ECDH-ES"},
        {"enc": "A128GCM"},
        {"zip": "DEF"},
        {"alg": "none"},
        {"crit": ["x"]},
    ],
    ids=str,
)
def test_other_algorithms_are_refused(pair: kbs.TeeKeyPair, change: dict[str, object]) -> None:
    found = json.loads(kbs.seal_response(SECRET, pair.public))
    header = json.loads(base64.urlsafe_b64decode(found["protected"] + "=="))
    protected = encode(json.dumps(header | change).encode())
    with pytest.raises(RemoteProtocolError):
        kbs.open_response(json.dumps(found | {"protected": protected}).encode(), pair)


@given(st.sampled_from(["protected", "encrypted_key", "iv", "ciphertext", "tag"]), st.text(max_size=40))
def test_nothing_but_the_named_errors_escapes(name: str, value: str) -> None:
    pair = kbs.TeeKeyPair.generate()
    found = json.loads(kbs.seal_response(SECRET, pair.public))
    with pytest.raises(RemoteProtocolError):
        kbs.open_response(json.dumps(found | {name: value}).encode(), pair)


def test_additional_data_is_refused(pair: kbs.TeeKeyPair) -> None:
    found = json.loads(kbs.seal_response(SECRET, pair.public))
    with pytest.raises(RemoteProtocolError, match="aad"):
        kbs.open_response(json.dumps(found | {"aad": "eA"}).encode(), pair)
