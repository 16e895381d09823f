"""The numbers of DSP0274 1.1 and 1.2 that are spoken here."""

from enum import IntEnum, IntFlag
from typing import Final

SPDM_10: Final = 0x10
SPDM_11: Final = 0x11
SPDM_12: Final = 0x12
HASH_SIZE: Final = 48
SIGNATURE_SIZE: Final = 96
EXCHANGE_SIZE: Final = 96
NONCE_SIZE: Final = 32
SLOTS: Final = 8
ALL: Final = 0xFF
"""GET_MEASUREMENTS: every block. Summary hash type: over every block."""
NO_SUMMARY: Final = 0
TCB_SUMMARY: Final = 1


class Code(IntEnum):
    """Request and response codes."""

    DIGESTS = 0x01
    CERTIFICATE = 0x02
    CHALLENGE_AUTH = 0x03
    VERSION = 0x04
    MEASUREMENTS = 0x60
    CAPABILITIES = 0x61
    ALGORITHMS = 0x63
    KEY_EXCHANGE_RSP = 0x64
    FINISH_RSP = 0x65
    HEARTBEAT_ACK = 0x68
    KEY_UPDATE_ACK = 0x69
    END_SESSION_ACK = 0x6C
    ERROR = 0x7F
    GET_DIGESTS = 0x81
    GET_CERTIFICATE = 0x82
    CHALLENGE = 0x83
    GET_VERSION = 0x84
    GET_MEASUREMENTS = 0xE0
    GET_CAPABILITIES = 0xE1
    NEGOTIATE_ALGORITHMS = 0xE3
    KEY_EXCHANGE = 0xE4
    FINISH = 0xE5
    HEARTBEAT = 0xE8
    KEY_UPDATE = 0xE9
    END_SESSION = 0xEC
    RESPOND_IF_READY = 0xFF


class ErrorCode(IntEnum):
    """Param1 of ERROR."""

    INVALID_REQUEST = 0x01
    BUSY = 0x03
    UNEXPECTED_REQUEST = 0x04
    UNSPECIFIED = 0x05
    DECRYPT_ERROR = 0x06
    UNSUPPORTED_REQUEST = 0x07
    REQUEST_IN_FLIGHT = 0x08
    SESSION_LIMIT_EXCEEDED = 0x0A
    SESSION_REQUIRED = 0x0B
    RESET_REQUIRED = 0x0C
    RESPONSE_TOO_LARGE = 0x0D
    REQUEST_TOO_LARGE = 0x0E
    VERSION_MISMATCH = 0x41
    RESPONSE_NOT_READY = 0x42
    REQUEST_RESYNCH = 0x43


class Capability(IntFlag):
    """Flags of GET_CAPABILITIES and CAPABILITIES that matter here; others are carried and ignored."""

    CERT = 1 << 1
    CHAL = 1 << 2
    MEAS_UNSIGNED = 1 << 3
    MEAS_SIGNED = 1 << 4
    MEAS_FRESH = 1 << 5
    ENCRYPT = 1 << 6
    MAC = 1 << 7
    MUT_AUTH = 1 << 8
    KEY_EX = 1 << 9
    HBEAT = 1 << 13
    KEY_UPD = 1 << 14
    HANDSHAKE_IN_THE_CLEAR = 1 << 15
    CHUNK = 1 << 17


_COMMON = (
    Capability.CERT
    | Capability.CHAL
    | Capability.ENCRYPT
    | Capability.MAC
    | Capability.KEY_EX
    | Capability.HBEAT
    | Capability.KEY_UPD
)
REQUESTER_FLAGS: Final = _COMMON
RESPONDER_FLAGS: Final = _COMMON | Capability.MEAS_SIGNED | Capability.MEAS_FRESH


class Algorithm(IntEnum):
    """The one suite: bits of NEGOTIATE_ALGORITHMS and ALGORITHMS."""

    DMTF_MEASUREMENTS = 0x01
    OPAQUE_FORMAT_1 = 0x02
    MEASUREMENT_SHA_384 = 0x04
    ECDSA_P384 = 0x80
    SHA_384 = 0x02
    SECP384R1 = 0x10
    AES_256_GCM = 0x02
    SPDM_KEY_SCHEDULE = 0x01


class AlgorithmType(IntEnum):
    """AlgType of an algorithm structure."""

    DHE = 2
    AEAD = 3
    REQ_BASE_ASYM = 4
    KEY_SCHEDULE = 5


class KeyOperation(IntEnum):
    """Param1 of KEY_UPDATE."""

    UPDATE_KEY = 1
    UPDATE_ALL_KEYS = 2
    VERIFY_NEW_KEY = 3
