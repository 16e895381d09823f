"""What a trust domain must be, beyond the platform under it (`attestation.dcap.checks`)."""

from ..checks import CheckId

_ABI = "TDX Module ABI"


class TdxCheck(CheckId):
    """Checks on the TD report, each against the policy's [tdx] section."""

    MODULE = (
        "tdx.module",
        "Intel QVL 4.1.2.5.12",
        "MRSIGNERSEAM or SEAMATTRIBUTES are not those of Intel's TDX module of this version",
        "the TDX module is not Intel's; do not use this worker",
    )
    MRSEAM = (
        "tdx.mrseam",
        "policy (mrseams)",
        "the TDX module is genuine but not a build that the policy lists",
        "add its MRSEAM if you trust it",
    )
    MINIMUM_TCB = (
        "tdx.minimum-tcb",
        "policy (minimum_tee_tcb_svn)",
        "a component of TEE_TCB_SVN is below the policy's minimum",
        "have the operator update the TDX module and microcode, then launch the TD again",
    )
    DEBUG = (
        "tdx.debug",
        f"{_ABI}, ATTRIBUTES.TUD",
        "the TD is under debug or profiling: the host can read its memory or watch it run",
        "launch the TD without DEBUG; a debug TD protects nothing",
    )
    ATTRIBUTES = (
        "tdx.attributes",
        f"{_ABI}, ATTRIBUTES",
        "a reserved bit is set, SEPT_VE_DISABLE is clear, or an attribute is not in allow_attributes",
        "launch the TD with the attributes the policy allows, or write the attribute into allow_attributes",
    )
    XFAM = (
        "tdx.xfam",
        f"{_ABI}, XFAM",
        "x87 or SSE is off, an undefined feature is on, or the value is not in the policy's xfams",
        "compare the VM's CPU configuration with the one you trust",
    )
    MRTD = (
        "tdx.mrtd",
        "policy (mrtds)",
        "the TD's initial contents (firmware) are not in the policy",
        "compare with the release you trust; see `cloister measure`",
    )
    RTMRS = (
        "tdx.rtmrs",
        "policy (rtmr0s to rtmr3s)",
        "a runtime measurement register is not in the policy",
        "compare boot loader, kernel, command line and application with the release you trust",
    )
    EVENT_LOG = (
        "tdx.event-log",
        "TCG PC Client Firmware Profile 10; ACPI CCEL",
        "the event log does not replay to the registers of the quote, or is missing",
        "the log is incomplete or altered; fetch it together with the quote",
    )
    REPORT_DATA = (
        "tdx.report-data",
        "docs/spec/evidence.md, Binding (REPORT_DATA)",
        "the quote does not commit to the expected keys and nonce",
        "attest again; if it persists, somebody is in between",
    )
    SERVICE_TD = (
        "tdx.service-td",
        f"{_ABI}, SERVTD_HASH",
        "a service TD (for example a migration TD) is bound, and the policy does not list it",
        "add its hash to mrservicetds if you trust that TD with this one's memory",
    )
    CONFIG_IDS = (
        "tdx.config-ids",
        f"{_ABI}, MRCONFIGID, MROWNER, MROWNERCONFIG",
        "MRCONFIGID, MROWNER or MROWNERCONFIG is neither zero nor in the policy",
        "compare with the configuration you trust and list it",
    )
