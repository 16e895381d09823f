"""What a device signs: ECDSA P-384 with SHA-384 over a transcript (DSP0274, signature generation).

1.1 signs the transcript; 1.2 signs a prefix that names protocol and purpose, and the transcript's hash.
"""

import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from .codes import SIGNATURE_SIZE, SPDM_12
from .errors import SignatureRefused

CHALLENGE: Final = "responder-challenge_auth signing"
MEASUREMENTS: Final = "responder-measurements signing"
KEY_EXCHANGE: Final = "responder-key_exchange_rsp signing"
_HALF: Final = SIGNATURE_SIZE // 2
_CONTEXT: Final = 36


def signed_message(version: int, context: str, transcript: bytes) -> bytes:
    """The message under the signature, to be hashed once more by ECDSA with SHA-384."""
    if version < SPDM_12:
        return transcript
    prefix = f"dmtf-spdm-v{version >> 4}.{version & 0xF}.*" * 4
    return prefix.encode() + context.encode().rjust(_CONTEXT, b"\0") + hashlib.sha384(transcript).digest()


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """R || S, 96 bytes, big-endian."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA384())))
    return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")


def verify(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes, *, what: str) -> None:
    """Raises SignatureRefused, which names `what`."""
    r, s = int.from_bytes(signature[:_HALF], "big"), int.from_bytes(signature[_HALF:], "big")
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise SignatureRefused(f"the signature of {what} does not verify under the leaf's key") from None
