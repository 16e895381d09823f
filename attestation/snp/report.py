"""ATTESTATION_REPORT of SEV-SNP, versions 2 to 5: 1184 bytes, the first 672 signed."""

import struct
from dataclasses import dataclass
from typing import Self

from ..errors import MalformedEvidence
from .flags import GuestPolicy, PlatformInfo, SignerInfo
from .product import Cpuid, FirmwareVersion, Product, Tcb

REPORT_SIZE = 1184
SIGNED_SIZE = 0x2A0
SIGNATURE_ALGORITHM = 1  # ECDSA on P-384 with SHA-384
VERSIONS = range(2, 6)
NO_MIGRATION_AGENT = b"\xff" * 32

# 000h to 18Ah; 1A0h to 207h; the signature. Between them: reserved.
_HEAD = struct.Struct("<IIQ16s16sII8sQII64s48s32s48s48s32s32s8s3B21x")
_TAIL = struct.Struct("<64s8s3Bx3Bx8sQQ152x72s72s368x")
_RESERVED = ((0x04C, 0x050), (0x18B, 0x1A0), (0x1EB, 0x1EC), (0x1EF, 0x1F0), (0x208, 0x2A0), (0x330, 0x4A0))
_CPUID = (0x188, 0x18B)  # reserved before version 3
_MITIGATIONS = (0x1F8, 0x208)  # reserved before version 5
_ZEROS = {
    version: tuple(
        (slice(start, end), bytes(end - start))
        for start, end in (
            *_RESERVED,
            *((_CPUID,) if version < 3 else ()),
            *((_MITIGATIONS,) if version < 5 else ()),
        )
    )
    for version in VERSIONS
}
"""By version, what must be zero."""
_SCALAR = 72


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpReport:
    """ATTESTATION_REPORT (SEV-SNP ABI 1.58, section 7.3). Parsed, not verified.

    Sizes in bytes: family_id, image_id 16; report_data, chip_id 64; measurement, id_key_digest,
    author_key_digest 48; host_data, report_id, report_id_ma 32. `cpuid` is None in version 2, the
    mitigation vectors (64-bit) are None before version 5. `signature_r` and `signature_s` are
    unsigned integers of at most 576 bits.
    """

    version: int
    guest_svn: int
    policy: GuestPolicy
    family_id: bytes
    image_id: bytes
    vmpl: int
    signature_algo: int
    current_tcb: Tcb
    platform_info: PlatformInfo
    signer_info: SignerInfo
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: Tcb
    cpuid: Cpuid | None
    chip_id: bytes
    committed_tcb: Tcb
    current_version: FirmwareVersion
    committed_version: FirmwareVersion
    launch_tcb: Tcb
    launch_mit_vector: int | None
    current_mit_vector: int | None
    signature_r: int
    signature_s: int

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The report in `raw`; MalformedEvidence for another length or version, or reserved bytes in use."""
        if len(raw) != REPORT_SIZE:
            raise MalformedEvidence(f"report is {len(raw)} bytes, not {REPORT_SIZE}")
        head, tail = _HEAD.unpack_from(raw), _TAIL.unpack_from(raw, _HEAD.size)
        version, guest_svn, policy, family_id, image_id, vmpl, algorithm, current_tcb = head[:8]
        platform_info, signer_info, _, *digests, reported_tcb, family, model, stepping = head[8:]
        report_data, measurement, host_data, id_key, author_key, report_id, report_id_ma = digests
        chip_id, committed_tcb, *versions, launch_tcb, launch_mit, current_mit, r, s = tail
        if version not in VERSIONS:
            raise MalformedEvidence(f"report version {version} is not one of 2 to 5")
        cpuid = Cpuid(family, model, stepping) if version >= 3 else None
        fmc = _counts_fmc(cpuid, chip_id)
        build, minor, major, committed_build, committed_minor, committed_major = versions
        if any(raw[place] != zeros for place, zeros in _ZEROS[version]):
            raise MalformedEvidence(f"reserved bytes of a version {version} report are not zero")
        return cls(
            version=version,
            guest_svn=guest_svn,
            policy=GuestPolicy.from_int(policy),
            family_id=family_id,
            image_id=image_id,
            vmpl=vmpl,
            signature_algo=algorithm,
            current_tcb=Tcb.from_bytes(current_tcb, fmc=fmc),
            platform_info=PlatformInfo(platform_info),
            signer_info=SignerInfo.from_int(signer_info),
            report_data=report_data,
            measurement=measurement,
            host_data=host_data,
            id_key_digest=id_key,
            author_key_digest=author_key,
            report_id=report_id,
            report_id_ma=report_id_ma,
            reported_tcb=Tcb.from_bytes(reported_tcb, fmc=fmc),
            cpuid=cpuid,
            chip_id=chip_id,
            committed_tcb=Tcb.from_bytes(committed_tcb, fmc=fmc),
            current_version=FirmwareVersion(major, minor, build),
            committed_version=FirmwareVersion(committed_major, committed_minor, committed_build),
            launch_tcb=Tcb.from_bytes(launch_tcb, fmc=fmc),
            launch_mit_vector=launch_mit if version >= 5 else None,
            current_mit_vector=current_mit if version >= 5 else None,
            signature_r=int.from_bytes(r, "little"),
            signature_s=int.from_bytes(s, "little"),
        )

    def to_bytes(self) -> bytes:
        """The 1184 bytes; `from_bytes` of them gives this report again."""
        cpuid = self.cpuid or Cpuid(0, 0, 0)
        current, committed = self.current_version, self.committed_version
        head = _HEAD.pack(
            self.version,
            self.guest_svn,
            self.policy.to_int(),
            self.family_id,
            self.image_id,
            self.vmpl,
            self.signature_algo,
            self.current_tcb.to_bytes(),
            int(self.platform_info),
            self.signer_info.to_int(),
            0,
            self.report_data,
            self.measurement,
            self.host_data,
            self.id_key_digest,
            self.author_key_digest,
            self.report_id,
            self.report_id_ma,
            self.reported_tcb.to_bytes(),
            cpuid.family,
            cpuid.model,
            cpuid.stepping,
        )
        return head + _TAIL.pack(
            self.chip_id,
            self.committed_tcb.to_bytes(),
            *(current.build, current.minor, current.major),
            *(committed.build, committed.minor, committed.major),
            self.launch_tcb.to_bytes(),
            self.launch_mit_vector or 0,
            self.current_mit_vector or 0,
            self.signature_r.to_bytes(_SCALAR, "little"),
            self.signature_s.to_bytes(_SCALAR, "little"),
        )

    @property
    def signed(self) -> bytes:
        """The 672 bytes that the signature covers."""
        return self.to_bytes()[:SIGNED_SIZE]

    @property
    def product(self) -> Product | None:
        """The line that the report names through its CPUID; None in version 2."""
        return self.cpuid.product if self.cpuid else None


def _counts_fmc(cpuid: Cpuid | None, chip_id: bytes) -> bool:
    """Whether TCB versions are in Turin's layout.

    A version 2 report names no processor; from Turin on a chip's identity has only 8 bytes.
    """
    if cpuid is not None:
        return cpuid.family >= 0x1A
    return any(chip_id) and not any(chip_id[8:])
