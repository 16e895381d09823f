"""ECDSA P-384 with SHA-384, as NVIDIA's devices and manifests sign: R || S, 48 bytes each."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from .chain import Certificate

SIGNATURE_SIZE = 96
ECDSA_SHA384 = ec.ECDSA(hashes.SHA384())


def ecdsa_p384(signer: Certificate, signature: bytes, message: bytes) -> bool:
    """Whether `signer`'s key made `signature` over `message`."""
    if len(signature) != SIGNATURE_SIZE:
        return False
    r, s = (int.from_bytes(half, "big") for half in (signature[:48], signature[48:]))
    try:
        signer.key.verify(encode_dss_signature(r, s), message, ECDSA_SHA384)
    except InvalidSignature:
        return False
    return True
