"""The paravisor's report (HCL report) of an Azure confidential VM, as read from the vTPM's NV storage."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import rsa

from ..encoding import strict_json
from ..errors import MalformedEvidence
from ..jose import public_key
from ..wire import Reader

SIGNATURE = b"HCLA"
HARDWARE_SIZE = 1184
HEADER_SIZE = 32
RUNTIME_OFFSET = HEADER_SIZE + HARDWARE_SIZE
RUNTIME_HEADER_SIZE = 20
RUNTIME_VERSION = 1
MAX_REPORT = 16 * 1024
ATTESTATION_KEY = "HCLAkPub"
_HASHES = {1: "sha256", 2: "sha384", 3: "sha512"}
_TDREPORT_DATA = slice(128, 192)  # REPORTMACSTRUCT.REPORTDATA (TDX Module ABI)
_SNP_DATA = slice(0x50, 0x90)


class ReportType(IntEnum):
    """Which hardware made the report."""

    SNP = 2
    TDX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HclReport:
    """An HCL report. Parsed, not verified.

    `hardware` is an SNP report, or a TDREPORT padded with zeros; `runtime` the JSON as hashed into
    it. `padding` counts the zeros after it.
    """

    version: int
    request_type: int
    status: bytes
    hardware: bytes = field(repr=False)
    runtime_version: int
    report_type: ReportType
    hash_type: int
    runtime: bytes = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False)
    padding: int

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The report in `raw`; MalformedEvidence if a length, a type or the JSON is not as expected."""
        if len(raw) > MAX_REPORT:
            raise MalformedEvidence(f"HCL report of {len(raw)} bytes exceeds {MAX_REPORT}")
        reader = Reader(raw, "HCL report")
        if reader.take(4) != SIGNATURE:
            raise MalformedEvidence("HCL report without its signature HCLA")
        version, size, request = reader.little(4), reader.little(4), reader.little(4)
        status, hardware = reader.take(16), reader.take(HARDWARE_SIZE)
        data_size, runtime_version = reader.little(4), reader.little(4)
        kind, hash_type = reader.little(4), reader.little(4)
        runtime = reader.take(reader.little(4))
        padding = reader.take(reader.left)
        if any(padding) or data_size != RUNTIME_HEADER_SIZE + len(runtime):
            raise MalformedEvidence("HCL report whose sizes contradict each other")
        if size != RUNTIME_OFFSET + data_size:
            raise MalformedEvidence("HCL report whose header gives another size")
        if runtime_version != RUNTIME_VERSION or hash_type not in _HASHES or kind not in set(ReportType):
            raise MalformedEvidence(f"HCL runtime data {runtime_version} of type {kind}, hash {hash_type}")
        claims = strict_json(runtime, limit=MAX_REPORT)
        if not isinstance(claims, dict):
            raise MalformedEvidence("HCL runtime data is not a JSON object")
        return cls(
            version=version,
            request_type=request,
            status=status,
            hardware=hardware,
            runtime_version=runtime_version,
            report_type=ReportType(kind),
            hash_type=hash_type,
            runtime=runtime,
            claims=claims,
            padding=len(padding),
        )

    def to_bytes(self) -> bytes:
        """The report, byte for byte as parsed."""
        data_size = RUNTIME_HEADER_SIZE + len(self.runtime)
        head = SIGNATURE + _u32(self.version, RUNTIME_OFFSET + data_size, self.request_type) + self.status
        types = _u32(data_size, self.runtime_version, self.report_type, self.hash_type, len(self.runtime))
        return head + self.hardware + types + self.runtime + bytes(self.padding)

    @property
    def report_data(self) -> bytes:
        """What the hardware report must carry: the hash of the runtime data, then zeros; 64 bytes."""
        return hashlib.new(_HASHES[self.hash_type], self.runtime).digest().ljust(64, b"\0")

    @property
    def hardware_data(self) -> bytes:
        """What the hardware report carries: REPORT_DATA or REPORTDATA, 64 bytes."""
        return self.hardware[_SNP_DATA if self.report_type is ReportType.SNP else _TDREPORT_DATA]

    @property
    def attestation_key(self) -> rsa.RSAPublicKey | None:
        """HCLAkPub of the runtime data; None unless there is exactly one, an RSA key."""
        keys = self.claims.get("keys")
        named = [
            item
            for item in (keys if isinstance(keys, list) else ())
            if isinstance(item, dict) and item.get("kid") == ATTESTATION_KEY
        ]
        if len(named) != 1:
            return None
        key = public_key(named[0])
        return key if isinstance(key, rsa.RSAPublicKey) else None

    @property
    def vm_configuration(self) -> Mapping[str, Any]:
        """The "vm-configuration" of the runtime data; empty if there is none."""
        found = self.claims.get("vm-configuration")
        return found if isinstance(found, dict) else {}

    @property
    def user_data(self) -> str | None:
        """The "user-data" of the runtime data, in hexadecimal."""
        found = self.claims.get("user-data")
        return found if isinstance(found, str) else None


def _u32(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)
