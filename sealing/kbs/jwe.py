"""A resource as a JWE (RFC 7516, flattened JSON) to a one-time key, as the server at 0.4.0 writes it.

The protected header has to read `alg`, `enc`, then the rest in order of name, without blanks: clients
parse it, write it anew and take that for the associated data. Writing is therefore done here, over
`cryptography`; opening is joserfc's, which decides by itself what it accepts.
"""

import os
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from ..errors import DecryptionFailed, MalformedMessage
from . import reading
from .keys import ECDH_ES_A256KW, P256, RSA_OAEP_256, EcPublicKey, TeeKeyPair, TeePublicKey

A256GCM = "A256GCM"
MAX_RESPONSE = 1024 * 1024
_PARTS = ("protected", "encrypted_key", "iv", "ciphertext", "tag")


def seal_response(plaintext: bytes, key: TeePublicKey) -> bytes:
    """The JWE in JSON. A fresh content key and, for EC, a fresh key pair each time."""
    cek, iv = AESGCM.generate_key(256), os.urandom(12)
    header, wrapped = _wrap(cek, key)
    protected = reading.encode(reading.compact(header))
    sealed = AESGCM(cek).encrypt(iv, plaintext, protected.encode("ascii"))
    values = (wrapped, iv, sealed[:-16], sealed[-16:])
    return reading.compact(dict(zip(_PARTS, (protected, *map(reading.encode, values)), strict=True)))


def open_response(raw: bytes, key: TeeKeyPair) -> bytes:
    """The plaintext of a JWE to `key`. MalformedMessage, or DecryptionFailed whatever the cause."""
    from joserfc.errors import JoseError
    from joserfc.jwe import JWERegistry, decrypt_compact
    from joserfc.jwk import ECKey

    found = reading.table(raw, "response", limit=MAX_RESPONSE)
    if "aad" in found:
        raise MalformedMessage("response: no server of this protocol sends aad, and it is not authenticated")
    parts = [reading.text(found, name, "response", limit=MAX_RESPONSE) for name in _PARTS]
    registry = JWERegistry(algorithms=[ECDH_ES_A256KW, A256GCM])
    try:
        return (
            decrypt_compact(".".join(parts), ECKey(key.private, key.private), registry=registry).plaintext
            or b""
        )
    except (JoseError, ValueError, TypeError, KeyError):  # joserfc lets these escape for odd headers
        raise DecryptionFailed from None


def _wrap(cek: bytes, key: TeePublicKey) -> tuple[dict[str, Any], bytes]:
    """The protected header, its members in the order that clients write them, and the wrapped key."""
    if not isinstance(key, EcPublicKey):
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        return {"alg": RSA_OAEP_256, "enc": A256GCM}, key.load().encrypt(cek, oaep)
    ours = ec.generate_private_key(ec.SECP256R1())
    kek = _concat_kdf(ours.exchange(ec.ECDH(), key.load()))
    public = TeeKeyPair(ours).public.to_json()
    epk = {"crv": P256, "kty": "EC", "x": public["x"], "y": public["y"]}
    return {"alg": ECDH_ES_A256KW, "enc": A256GCM, "epk": epk}, aes_key_wrap(kek, cek)


def _concat_kdf(shared: bytes) -> bytes:
    """The key that wraps (RFC 7518, 4.6.2), with empty PartyUInfo and PartyVInfo."""
    name = ECDH_ES_A256KW.encode("ascii")
    info = len(name).to_bytes(4, "big") + name + bytes(8) + (256).to_bytes(4, "big")
    return ConcatKDFHash(hashes.SHA256(), 32, info).derive(shared)
