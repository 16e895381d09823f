"""An SEV-SNP report as the JSON that the `sev` crate (version 7) makes of it, which Trustee parses.

Octet strings are arrays of numbers; what older report versions lack is null.
"""

from collections.abc import Mapping
from typing import Any

from ..errors import MalformedEvidence
from ..snp.flags import GuestPolicy, PlatformInfo, SignerInfo
from ..snp.product import Cpuid, FirmwareVersion, Tcb
from ..snp.report import SnpReport
from ..values import exact, sequence, uint

_U8, _U32, _U64 = 0xFF, (1 << 32) - 1, (1 << 64) - 1
_OCTETS = {
    "family_id": 16,
    "image_id": 16,
    "report_data": 64,
    "measurement": 48,
    "host_data": 32,
    "id_key_digest": 48,
    "author_key_digest": 48,
    "report_id": 32,
    "report_id_ma": 32,
    "chip_id": 64,
}
_TCBS = ("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb")
_TCB = {"bootloader": "bl", "tee": "tee", "snp": "snp", "microcode": "ucode"}
_CPUID = {"cpuid_fam_id": "family", "cpuid_mod_id": "model", "cpuid_step": "stepping"}
_VERSIONS = {"current": "current_version", "committed": "committed_version"}
_MITIGATIONS = ("launch_mit_vector", "current_mit_vector")
_WORDS = {"version": _U32, "guest_svn": _U32, "vmpl": _U32, "sig_algo": _U32}
_FLAGS = {"policy": _U64, "plat_info": _U64, "key_info": _U32}
_MEMBERS = {*_OCTETS, *_TCBS, *_CPUID, *_VERSIONS, *_MITIGATIONS, *_WORDS, *_FLAGS, "signature"}
_SCALAR = 72


def encode_report(raw: bytes) -> dict[str, Any]:
    """The JSON values for a report of 1184 bytes. Raises MalformedEvidence."""
    report = SnpReport.from_bytes(raw)
    scalars = {"r": report.signature_r, "s": report.signature_s}
    return {
        "version": report.version,
        "guest_svn": report.guest_svn,
        "vmpl": report.vmpl,
        "sig_algo": report.signature_algo,
        "policy": report.policy.to_int(),
        "plat_info": int(report.platform_info),
        "key_info": report.signer_info.to_int(),
        **{name: list(getattr(report, name)) for name in _OCTETS},
        **{name: _encode_tcb(getattr(report, name)) for name in _TCBS},
        **{name: getattr(report.cpuid, part, None) for name, part in _CPUID.items()},
        **{name: _encode_version(getattr(report, part)) for name, part in _VERSIONS.items()},
        **{name: getattr(report, name) for name in _MITIGATIONS},
        "signature": {name: list(value.to_bytes(_SCALAR, "little")) for name, value in scalars.items()},
    }


def decode_report(value: Any) -> bytes:
    """The 1184 bytes of a report in that form; the signature judges them. Raises MalformedEvidence.

    Version 6 of the crate has no mitigation vectors: they may be left out.
    """
    if not isinstance(value, dict):
        raise MalformedEvidence("attestation_report is not an object")
    table = exact(dict.fromkeys(_MITIGATIONS) | value, _MEMBERS, "attestation_report")
    signature = exact(table["signature"], {"r", "s"}, "signature")
    cpuid = [_optional(table[name], _U8) for name in _CPUID]
    parts: dict[str, Any] = {
        **{name: _octets(table[name], size) for name, size in _OCTETS.items()},
        **{name: _decode_tcb(table[name]) for name in _TCBS},
        **{part: _decode_version(table[name]) for name, part in _VERSIONS.items()},
        **{name: _optional(table[name], _U64) for name in _MITIGATIONS},
    }
    report = SnpReport(
        version=uint(table["version"], _U32),
        guest_svn=uint(table["guest_svn"], _U32),
        vmpl=uint(table["vmpl"], _U32),
        signature_algo=uint(table["sig_algo"], _U32),
        policy=GuestPolicy.from_int(uint(table["policy"], _U64)),
        platform_info=PlatformInfo(uint(table["plat_info"], _U64)),
        signer_info=SignerInfo.from_int(uint(table["key_info"], _U32)),
        cpuid=None if None in cpuid else Cpuid(*(part or 0 for part in cpuid)),
        **parts,
        signature_r=int.from_bytes(_octets(signature["r"], _SCALAR), "little"),
        signature_s=int.from_bytes(_octets(signature["s"], _SCALAR), "little"),
    )
    raw = report.to_bytes()
    if SnpReport.from_bytes(raw) != report:
        raise MalformedEvidence("attestation_report has members that its version does not have")
    return raw


def _encode_tcb(tcb: Tcb) -> dict[str, int | None]:
    return {"fmc": tcb.fmc, **{name: getattr(tcb, part) for name, part in _TCB.items()}}


def _decode_tcb(value: Any) -> Tcb:
    table = exact(value, {"fmc", *_TCB}, "a TCB version")
    levels = {part: uint(table[name], _U8) for name, part in _TCB.items()}
    return Tcb(fmc=_optional(table["fmc"], _U8), **levels)


def _encode_version(version: FirmwareVersion) -> dict[str, int]:
    return {"major": version.major, "minor": version.minor, "build": version.build}


def _decode_version(value: Any) -> FirmwareVersion:
    table: Mapping[str, Any] = exact(value, {"major", "minor", "build"}, "a firmware version")
    return FirmwareVersion(*(uint(table[name], _U8) for name in ("major", "minor", "build")))


def _optional(value: Any, limit: int) -> int | None:
    return None if value is None else uint(value, limit)


def _octets(value: Any, size: int) -> bytes:
    items = sequence(value, "octets", size)
    if len(items) != size:
        raise MalformedEvidence(f"{len(items)} octets, not {size}")
    return bytes(uint(item, _U8) for item in items)
