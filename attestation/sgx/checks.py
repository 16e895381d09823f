"""What an enclave must be, beyond the platform under it (`attestation.dcap.checks`)."""

from ..checks import CheckId

_SDM = "Intel SDM volume 3D, 39.7"


class SgxCheck(CheckId):
    """Checks on the enclave report, each against the policy's [sgx] section."""

    DEBUG = (
        "sgx.debug",
        f"{_SDM} (ATTRIBUTES)",
        "the enclave is in debug mode, or was never initialised: its memory is open",
        "run the enclave in production mode; a debug enclave protects nothing",
    )
    MEASUREMENT = (
        "sgx.measurement",
        "policy (mrenclaves, mrsigners)",
        "neither MRENCLAVE nor MRSIGNER with its ISVPRODID is in the policy",
        "compare with the release you trust",
    )
    ISVSVN = (
        "sgx.isvsvn",
        "policy (minimum_isvsvn)",
        "the enclave's security version is below the policy's minimum",
        "have the operator update the enclave",
    )
    REPORT_DATA = (
        "sgx.report-data",
        "docs/spec/evidence.md, Binding (REPORT_DATA)",
        "the quote does not commit to the expected keys and nonce",
        "attest again; if it persists, somebody is in between",
    )
    CONFIG = (
        "sgx.config",
        f"{_SDM} (CONFIGID, CONFIGSVN)",
        "CONFIGID is neither zero nor in the policy",
        "compare with the configuration you trust and list it",
    )
