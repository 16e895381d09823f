"""What Azure Key Vault answers to a release: a signed object with the key wrapped to the token's key.

JWS payload   {"request": {"enc", ...}, "response": {"key": {"key": {"kid", "kty", "key_hsm", ...}}}}
key_hsm       base64url of {"schema_version", "header", "ciphertext"}
ciphertext    RSA-OAEP(AES-256 key) || AES-KWP(PKCS#8 private key), the hash by `enc`   (RFC 5649)
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding
from cryptography.hazmat.primitives.serialization import load_der_private_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from attestation.encoding import b64url_decode, strict_json
from attestation.errors import MalformedEvidence
from attestation.jose import Token

MAX_PART: Final = 256 * 1024
ALGORITHMS: Final[Mapping[str, type[hashes.HashAlgorithm]]] = {
    "CKM_RSA_AES_KEY_WRAP": hashes.SHA1,
    "RSA_AES_KEY_WRAP_256": hashes.SHA256,
    "RSA_AES_KEY_WRAP_384": hashes.SHA384,
}
ASKED: Final = "RSA_AES_KEY_WRAP_256"


class NotReleased(Exception):
    """The vault's answer is not a release of the key that was asked for."""


def unwrap(
    answer: str, one_time: rsa.RSAPrivateKey, *, host: str, kid: str, roots: Sequence[x509.Certificate]
) -> rsa.RSAPrivateKey:
    """The released key in `answer`, a compact JWS. Raises NotReleased.

    1. its signer is `host` under `roots`, and signed it;  2. it is the key `kid`, wrapped as asked for;
    3. the one-time key opens the wrapping.
    """
    try:
        token = Token.from_compact(answer)
        _check_signer(token, host, roots)  # 1
        ciphertext = _ciphertext(token.claims, kid)  # 2
        key = _open(ciphertext, one_time)  # 3
    except (MalformedEvidence, ValueError, VerificationError, InvalidUnwrap) as error:
        raise NotReleased(str(error) or type(error).__name__) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise NotReleased("what was released is not an RSA key")
    return key


def _check_signer(token: Token, host: str, roots: Sequence[x509.Certificate]) -> None:
    import jwt

    chain = token.header.get("x5c")
    if not isinstance(chain, list) or not 0 < len(chain) <= 8 or token.header.get("alg") != "RS256":
        raise ValueError("it is not signed with RS256 under a certificate chain")
    raw = [base64.b64decode(item, validate=True) for item in chain if isinstance(item, str)]
    leaf, *between = (x509.load_der_x509_certificate(item) for item in raw)
    builder = PolicyBuilder().store(Store(list(roots))).time(datetime.now(UTC))
    builder.build_server_verifier(_name(host)).verify(leaf, between)
    public = leaf.public_key()
    if not isinstance(public, rsa.RSAPublicKey):
        raise ValueError("it is not signed by an RSA key")
    try:
        jwt.PyJWS(algorithms=["RS256"]).decode_complete(token.compact, public, ["RS256"])
    except jwt.PyJWTError:
        raise ValueError("its signature does not hold") from None


def _ciphertext(payload: Mapping[str, Any], kid: str) -> bytes:
    request, key = _member(payload, "request"), _member(_member(_member(payload, "response"), "key"), "key")
    if request.get("enc") != ASKED:
        raise ValueError(f"it is not wrapped with {ASKED}")
    if key.get("kid") != kid:
        raise ValueError("it is another key than the one asked for")
    hsm = strict_json(b64url_decode(_text(key, "key_hsm")), limit=MAX_PART)
    return b64url_decode(_text(hsm, "ciphertext"))


def _open(ciphertext: bytes, one_time: rsa.RSAPrivateKey) -> object:
    size = one_time.key_size // 8
    digest = ALGORITHMS[ASKED]()
    oaep = padding.OAEP(padding.MGF1(digest), digest, None)
    kek = one_time.decrypt(ciphertext[:size], oaep)
    return load_der_private_key(aes_key_unwrap_with_padding(kek, ciphertext[size:]), None)


def _member(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    if not isinstance(found, dict):
        raise ValueError(f"it has no {name}")
    return found


def _text(value: Any, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, str):
        raise ValueError(f"it has no {name}")
    return found


def _name(host: str) -> x509.DNSName | x509.IPAddress:
    import ipaddress

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
