"""The facts that a report states, as JSON values: bytes in hexadecimal, bit fields as 0x numbers."""

from typing import Any

from .flags import GuestFlag
from .report import SnpReport

_NAMED = {
    f"policy_{name.lower()}": GuestFlag[name].value
    for name in ("DEBUG", "SMT", "MIGRATE_MA", "SINGLE_SOCKET")
}


def report_claims(report: SnpReport) -> dict[str, Any]:
    """The claims of `report`; they hold only if the verdict is accepted."""
    flags, info = int(report.policy.flags), report.signer_info
    cpuid = report.cpuid
    octets = (cpuid.family, cpuid.model, cpuid.stepping) if cpuid else (0, 0, 0)
    claims: dict[str, Any] = {
        "report_version": report.version,
        "policy": f"{report.policy.to_int():#x}",
        **{name: bool(flags & bit) for name, bit in _NAMED.items()},
        "vmpl": report.vmpl,
        "guest_svn": report.guest_svn,
        "signing_key": info.signing_key.name,
        "mask_chip_key": info.mask_chip_key,
        "author_key_en": info.author_key_en,
        "measurement": report.measurement.hex(),
        "host_data": report.host_data.hex(),
        "report_data": report.report_data.hex(),
        "id_key_digest": report.id_key_digest.hex(),
        "author_key_digest": report.author_key_digest.hex(),
        "family_id": report.family_id.hex(),
        "image_id": report.image_id.hex(),
        "report_id": report.report_id.hex(),
        "report_id_ma": report.report_id_ma.hex(),
        "chip_id": report.chip_id.hex(),
        "cpuid_fam_mod_step": bytes(octets).hex(),
        "platform_info": f"{int(report.platform_info):#x}",
        "reported_tcb": report.reported_tcb.to_json(),
        "current_tcb": report.current_tcb.to_json(),
        "committed_tcb": report.committed_tcb.to_json(),
        "launch_tcb": report.launch_tcb.to_json(),
        "current_version": str(report.current_version),
        "committed_version": str(report.committed_version),
    }
    if report.launch_mit_vector is not None and report.current_mit_vector is not None:
        claims["launch_mit_vector"] = f"{report.launch_mit_vector:#x}"
        claims["current_mit_vector"] = f"{report.current_mit_vector:#x}"
    return claims
