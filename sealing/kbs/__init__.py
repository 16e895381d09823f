"""The Confidential Containers KBS protocol 0.4.0: its messages and its JWE. No IO, no evidence.

docs/spec/release.md says what goes where; the names are those of `kbs-types`.
"""

from .jwe import open_response, seal_response
from .keys import EcPublicKey, RsaPublicKey, TeeKeyPair, TeePublicKey, parse_public_key
from .messages import (
    MARK,
    PROTOCOL_VERSION,
    Attestation,
    Bound,
    Challenge,
    CompositeEvidence,
    ErrorInformation,
    InitData,
    Request,
    RuntimeData,
    TokenResponse,
)
from .resource import ResourceId

__all__ = [
    "MARK",
    "PROTOCOL_VERSION",
    "Attestation",
    "Bound",
    "Challenge",
    "CompositeEvidence",
    "EcPublicKey",
    "ErrorInformation",
    "InitData",
    "Request",
    "ResourceId",
    "RsaPublicKey",
    "RuntimeData",
    "TeeKeyPair",
    "TeePublicKey",
    "TokenResponse",
    "open_response",
    "parse_public_key",
    "seal_response",
]
