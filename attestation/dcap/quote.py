"""DCAP quotes, versions 3 (SGX), 4 and 5 (SGX and TDX): header, body, signature data, padding.

Intel SGX ECDSA Quote Library Reference (v3) and Intel TDX DCAP Quote Generation Library
Reference, appendix A (v4, v5). All integers are little-endian.
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Self

from ..errors import MalformedEvidence
from .enclave import REPORT_SIZE

MAX_QUOTE = 64 * 1024
HEADER_SIZE = 48
TEE_SGX, TEE_TDX = 0x00, 0x81
ECDSA_P256 = 2
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")

_HEADER = struct.Struct("<HHIHH16s20s")
_DESCRIPTOR = struct.Struct("<HI")
_SIGNATURE = struct.Struct("<64s64s")
_QE = struct.Struct(f"<{REPORT_SIZE}s64sH")
_SIZE = struct.Struct("<I")


class BodyType(IntEnum):
    """What a quote is about; in version 5 it is written, before that it follows from the TEE type."""

    SGX = 1
    TD_10 = 2
    TD_15 = 3
    TD_15_EX = 4


BODY_SIZES = {BodyType.SGX: REPORT_SIZE, BodyType.TD_10: 584, BodyType.TD_15: 648, BodyType.TD_15_EX: 885}


class CertificationType(IntEnum):
    """What endorses the quoting enclave (QE certification data type)."""

    PCK_CHAIN = 5
    QE_REPORT = 6


@dataclass(frozen=True, slots=True)
class Header:
    """The 48 signed bytes before the body. `qe_svn` and `pce_svn` are reserved in TDX quotes."""

    version: int
    key_type: int
    tee_type: int
    qe_svn: int
    pce_svn: int
    qe_vendor: bytes
    user_data: bytes

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The header in 48 bytes."""
        return cls(*_HEADER.unpack(raw))

    def to_bytes(self) -> bytes:
        """The header's 48 bytes."""
        return _HEADER.pack(*(getattr(self, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A quote, field by field. Parsed, not verified.

    `signed` is what the attestation key signs. In versions 4 and 5 the QE's report and the
    certification data sit inside certification data of type 6; in version 3 they do not.
    `padding` is what follows the quote in its buffer: some providers hand out a buffer of fixed
    size (Google Cloud: 8000 bytes). It may only be zeros and is part of no signature.
    """

    header: Header
    body_type: BodyType
    body: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: bytes
    qe_signature: bytes
    qe_auth_data: bytes
    certification_type: int
    certification_data: bytes = field(repr=False)
    padding: bytes = field(repr=False, default=b"")

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The quote in `raw`, at most 64 KiB; MalformedEvidence for anything that would not re-encode."""
        if len(raw) > MAX_QUOTE:
            raise MalformedEvidence(f"quote of {len(raw)} bytes exceeds {MAX_QUOTE}")
        try:
            header = Header.from_bytes(raw[:HEADER_SIZE])
            kind, start = _body(header, raw)
            end = start + BODY_SIZES[kind]
            (size,) = _SIZE.unpack_from(raw, end)
            stop = end + _SIZE.size + size
            if stop > len(raw):
                raise MalformedEvidence(f"quote declares {stop} bytes and has {len(raw)}")
            quote = cls(
                header=header,
                body_type=kind,
                body=raw[start:end],
                padding=raw[stop:],
                **_signature_data(header.version, raw[end + _SIZE.size : stop]),
            )
        except struct.error as error:
            raise MalformedEvidence(f"quote is cut short: {error}") from None
        if quote.padding.strip(b"\0"):
            raise MalformedEvidence("bytes other than zero after the quote")
        return quote

    def to_bytes(self) -> bytes:
        """The quote's bytes, with its padding."""
        certified = b"".join(
            (
                self.qe_report,
                self.qe_signature,
                len(self.qe_auth_data).to_bytes(2, "little"),
                self.qe_auth_data,
                _DESCRIPTOR.pack(self.certification_type, len(self.certification_data)),
                self.certification_data,
            )
        )
        if self.header.version > 3:
            certified = _DESCRIPTOR.pack(CertificationType.QE_REPORT, len(certified)) + certified
        data = self.signature + self.attestation_key + certified
        return self.signed + _SIZE.pack(len(data)) + data + self.padding

    @property
    def signed(self) -> bytes:
        """Header, body descriptor (version 5) and body: what the attestation key signs."""
        descriptor = _DESCRIPTOR.pack(self.body_type, len(self.body)) if self.header.version > 4 else b""
        return self.header.to_bytes() + descriptor + self.body


def _body(header: Header, raw: bytes) -> tuple[BodyType, int]:
    """The body's type and where it starts."""
    if header.version == 5:
        number, size = _DESCRIPTOR.unpack_from(raw, HEADER_SIZE)
        if number not in BODY_SIZES or size != BODY_SIZES[BodyType(number)]:
            raise MalformedEvidence(f"quote body of type {number} with {size} bytes")
        return BodyType(number), HEADER_SIZE + _DESCRIPTOR.size
    kind = {(3, TEE_SGX): BodyType.SGX, (4, TEE_SGX): BodyType.SGX, (4, TEE_TDX): BodyType.TD_10}.get(
        (header.version, header.tee_type)
    )
    if kind is None:
        raise MalformedEvidence(f"quote of version {header.version} and TEE type {header.tee_type:#x}")
    return kind, HEADER_SIZE


def _signature_data(version: int, data: bytes) -> dict[str, Any]:
    """The fields of the signature data, which they must fill exactly."""
    signature, key = _SIGNATURE.unpack_from(data)
    at = _SIGNATURE.size
    if version > 3:
        kind, size = _DESCRIPTOR.unpack_from(data, at)
        at += _DESCRIPTOR.size
        if kind != CertificationType.QE_REPORT or size != len(data) - at:
            raise MalformedEvidence(f"certification data of type {kind} with {size} bytes")
    report, report_signature, auth_size = _QE.unpack_from(data, at)
    at += _QE.size
    auth = data[at : at + auth_size]
    kind, size = _DESCRIPTOR.unpack_from(data, at + auth_size)
    at += auth_size + _DESCRIPTOR.size
    if size != len(data) - at:
        raise MalformedEvidence(f"certification data declares {size} bytes and has {len(data) - at}")
    return {
        "signature": signature,
        "attestation_key": key,
        "qe_report": report,
        "qe_signature": report_signature,
        "qe_auth_data": auth,
        "certification_type": kind,
        "certification_data": data[at:],
    }
