"""What a worker and its security processor say to each other over a Unix socket.

    frame    = u32be(length) || kind (u8) || body      length counts kind and body
    request  = SNP_REPORT (1):       vmpl (u8) || report_data (64)
             | COLLATERAL (3):       nothing
             | DEVICE_CHAIN (4):     device (u8) || its certificates, PEM
             | RESET_DEVICE (5):     device (u8)
    reply    = the request's kind | 0x80: parts, each u32be(length) || bytes
             | REFUSED (0xff):       the reason, UTF-8

SNP_REPORT is answered by the report and the certificates of its chain in DER; COLLATERAL by a CRL and any
number of OCSP responses; the others by no part. A device sends DEVICE_CHAIN and nothing else, a worker
everything but that. GPUs sign their own evidence, over the bus (enclave/gpu/device).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAX_REQUEST: Final = 32 * 1024
MAX_REPLY: Final = 256 * 1024
HEADER: Final = 4
REPORT_DATA_SIZE: Final = 64
MAX_PARTS: Final = 256
_REPLY: Final = 0x80
_REFUSED: Final = 0xFF


class MessageError(Exception):
    """Bytes that are not a message of this protocol."""


class Refused(Exception):
    """The security processor answered with a reason instead of evidence."""


class Kind(IntEnum):
    """What a worker can ask for: this and nothing else."""

    SNP_REPORT = 1
    COLLATERAL = 3
    DEVICE_CHAIN = 4
    RESET_DEVICE = 5


@dataclass(frozen=True, slots=True)
class SnpReportRequest:
    """Sign an attestation report over `report_data` (64 bytes) for privilege level `vmpl`."""

    report_data: bytes
    vmpl: int = 0


@dataclass(frozen=True, slots=True)
class CollateralRequest:
    """Give the revocation list and the status responses that the vendors' servers would give."""


@dataclass(frozen=True, slots=True)
class DeviceChain:
    """Certificates of `device`, which has just started: PEM, the leaf first."""

    device: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class ResetDevice:
    """Restart `device`: it does not answer."""

    device: int


Request = SnpReportRequest | CollateralRequest | DeviceChain | ResetDevice


def encode_request(request: Request) -> bytes:
    """The frame of `request`. ValueError for a size or number that does not fit."""
    match request:
        case SnpReportRequest(report_data=data, vmpl=vmpl):
            _fits(data, REPORT_DATA_SIZE)
            return _frame(Kind.SNP_REPORT, bytes((vmpl,)) + data)
        case CollateralRequest():
            return _frame(Kind.COLLATERAL, b"")
        case DeviceChain(device=device, chain=chain):
            if not 0 < len(chain) < MAX_REQUEST - 2:
                raise ValueError(f"a chain of {len(chain)} bytes")
            return _frame(Kind.DEVICE_CHAIN, bytes((device,)) + chain)
        case ResetDevice(device=device):
            return _frame(Kind.RESET_DEVICE, bytes((device,)))


def decode_request(content: bytes) -> Request:
    """The request in a frame's content; MessageError for anything else."""
    kind, body = content[:1], content[1:]
    match kind, len(body):
        case b"\x01", 65:
            return SnpReportRequest(body[1:], body[0])
        case b"\x03", 0:
            return CollateralRequest()
        case b"\x04", size if 1 < size < MAX_REQUEST - 1:
            return DeviceChain(body[0], body[1:])
        case b"\x05", 1:
            return ResetDevice(body[0])
    raise MessageError(f"no request has kind {kind.hex() or 'nothing'} and {len(body)} bytes")


def kind_of(request: Request) -> Kind:
    """The kind of `request`."""
    kinds: dict[type, Kind] = {
        SnpReportRequest: Kind.SNP_REPORT,
        CollateralRequest: Kind.COLLATERAL,
        DeviceChain: Kind.DEVICE_CHAIN,
        ResetDevice: Kind.RESET_DEVICE,
    }
    return kinds[type(request)]


def encode_reply(kind: Kind, parts: tuple[bytes, ...]) -> bytes:
    """The frame that answers a request of `kind`."""
    return _frame(kind | _REPLY, b"".join(len(part).to_bytes(4, "big") + part for part in parts))


def encode_refusal(reason: str) -> bytes:
    """The frame that gives a reason instead."""
    return _frame(_REFUSED, reason.encode("utf-8", "replace"))


def decode_reply(content: bytes, expected: Kind) -> tuple[bytes, ...]:
    """The parts of the reply to a request of kind `expected`. Raises Refused, MessageError."""
    if content[:1] == bytes((_REFUSED,)):
        raise Refused(content[1:].decode("utf-8", "replace"))
    if content[:1] != bytes((expected | _REPLY,)):
        raise MessageError(f"the reply is of kind {content[:1].hex() or 'nothing'}, not to {expected.name}")
    parts: list[bytes] = []
    offset = 1
    while offset < len(content):
        start = offset + 4
        offset = start + int.from_bytes(content[offset:start], "big")
        if start > len(content) or offset > len(content) or len(parts) == MAX_PARTS:
            raise MessageError("the reply's parts do not fill it")
        parts.append(content[start:offset])
    return tuple(parts)


class Frames:
    """Cuts a stream of bytes into frames' contents, each at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The contents that `data` completes. MessageError for an empty or too long frame; it is final."""
        self._buffer += data
        found: list[bytes] = []
        while len(self._buffer) >= HEADER:
            size = int.from_bytes(self._buffer[:HEADER], "big")
            if not 0 < size <= self._limit:
                raise MessageError(f"a frame of {size} bytes, not 1 to {self._limit}")
            if len(self._buffer) < HEADER + size:
                break
            found.append(bytes(self._buffer[HEADER : HEADER + size]))
            del self._buffer[: HEADER + size]
        return found


def _frame(kind: int, body: bytes) -> bytes:
    return (len(body) + 1).to_bytes(HEADER, "big") + bytes((kind,)) + body


def _fits(data: bytes, size: int) -> None:
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes, not {size}")
