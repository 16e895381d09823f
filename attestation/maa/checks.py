"""The checks on Microsoft Azure Attestation tokens."""

from ..checks import CheckId

_CLAIMS = "Microsoft Azure Attestation, claim sets"


class MaaCheck(CheckId):
    """Checks on a token: who signed it, when, and what it says of the machine."""

    KEY = (
        "maa.key",
        f"{_CLAIMS}; RFC 7517; policy (keys)",
        "the token's key is not in the issuer's key set, or not one that the policy lists",
        "fetch the key set from the issuer that the policy names; the token's own jku proves nothing",
    )
    SIGNATURE = (
        "maa.signature",
        "RFC 7515, 5.2; RFC 7518, 3.3",
        "the issuer's key did not sign the token with RS256",
        "the token was altered or is another issuer's; request a new one",
    )
    ISSUER = (
        "maa.issuer",
        "RFC 7519, 4.1.1; policy (issuer)",
        "another instance of the service issued the token",
        "attest with the instance that the policy names",
    )
    VALIDITY = (
        "maa.validity",
        "RFC 7519, 4.1.4 and 4.1.5",
        "the token is expired, not yet valid, or does not say",
        "request a new token",
    )
    ISOLATION = (
        "maa.isolation",
        f"{_CLAIMS} (x-ms-isolation-tee, x-ms-attestation-type)",
        "the token speaks of a TEE that the policy does not name, or of none",
        "run the workload in a confidential VM of a kind that the policy names",
    )
    COMPLIANCE = (
        "maa.compliance",
        f"{_CLAIMS} (x-ms-compliance-status)",
        "the service does not call the machine compliant",
        "see the service's policy for the reason",
    )
    DEBUG = (
        "maa.debug",
        f"{_CLAIMS} (is-debuggable, td-attributes-debug, dbgstat, *-debug-enabled)",
        "the guest, its boot loader, kernel or hypervisor may be debugged, or the token does not say",
        "run without debugging",
    )
    MIGRATION = (
        "maa.migration",
        f"{_CLAIMS} (x-ms-sevsnpvm-migration-allowed)",
        "the guest may be migrated by an agent that is not measured, or the token does not say",
        "forbid migration, or write allow_migration = true",
    )
    SECURE_BOOT = (
        "maa.secure-boot",
        f"{_CLAIMS} (secureboot)",
        "the virtual machine did not boot securely, or the token does not say",
        "enable secure boot, or write allow_no_secure_boot = true",
    )
    MEASUREMENT = (
        "maa.measurement",
        f"{_CLAIMS} (launchmeasurement, mrtd); policy (measurements)",
        "the launch measurement is not one that the policy lists",
        "compare with the image you trust",
    )
    TCB = (
        "maa.tcb",
        f"{_CLAIMS} (*-svn, attester_tcb_status); policy (minimum_svn, tcb_statuses)",
        "a security version is below the policy's minimum, or absent; or Intel's status is not a listed one",
        "update the platform's firmware",
    )
    POLICY_HASH = (
        "maa.policy-hash",
        f"{_CLAIMS} (x-ms-policy-hash)",
        "the service judged by a policy that yours does not list",
        "compare with the policy configured at the instance",
    )
    NONCE = (
        "maa.nonce",
        f"{_CLAIMS} (x-ms-runtime, client-payload)",
        "the token answers another nonce, or the verifier had none",
        "request a token over your own nonce",
    )
    RUNTIME = (
        "maa.runtime",
        f"{_CLAIMS} (x-ms-runtime)",
        "the runtime claims do not hold the key that the verifier is about to use",
        "the token belongs to another key",
    )
