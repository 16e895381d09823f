"""Checks that every DCAP quote goes through, SGX or TDX: quoting enclave, PCK chain, collateral, TCB."""

from ..checks import CheckId

_QVL = "Intel QVL 4.1.2"
_REFETCH = "fetch current collateral for this platform: cloister collateral fetch"


class DcapCheck(CheckId):
    """What the quoting enclave and its platform must be, from the pinned root down to the quote."""

    QUOTE_FORMAT = (
        "dcap.quote-format",
        f"{_QVL}.4 (header)",
        "version, TEE type, key type and body type do not belong together",
        "give the quote as the platform produced it, to the appraiser of its TEE",
    )
    QE_VENDOR = (
        "dcap.qe-vendor",
        f"{_QVL}.4 (QE vendor id)",
        "the quote names a quoting enclave that is not Intel's",
        "only Intel's quoting enclaves have an identity to judge by; use a platform with one",
    )
    PCK_CHAIN = (
        "dcap.pck-chain",
        f"{_QVL}.5.3",
        "the PCK certificate does not chain to the pinned Intel SGX root, or is not of that kind",
        "the quote is forged or altered, or the roots are not Intel's; do not use this worker",
    )
    PCK_VALIDITY = (
        "dcap.pck-validity",
        f"{_QVL}.5.3 (validity)",
        "a certificate of the PCK chain is expired or not yet valid",
        "check the clock; for archived evidence give the time it was made",
    )
    PCK_EXTENSION = (
        "dcap.pck-extension",
        "PCK certificate profile 1.3.5",
        "the PCK certificate lacks the SGX extension or its fields are malformed",
        "the certificate is not a PCK certificate; do not use this worker",
    )
    PLATFORM = (
        "dcap.platform",
        "policy (fmspcs, ppids)",
        "the platform is genuine but not one that the policy lists",
        "add its FMSPC or PPID to the policy if you trust it",
    )
    ROOT_CRL = (
        "dcap.root-crl",
        f"{_QVL}.5.7",
        "the root CA's CRL is missing, not signed by the root, or not current",
        _REFETCH,
    )
    CA_NOT_REVOKED = (
        "dcap.ca-not-revoked",
        f"{_QVL}.5.8",
        "the root has revoked the PCK CA or the TCB signing certificate",
        "do not use this worker; fetch collateral again",
    )
    PCK_CRL = (
        "dcap.pck-crl",
        f"{_QVL}.5.7",
        "the PCK CA's CRL is missing, not signed by that CA, or not current",
        _REFETCH,
    )
    PCK_NOT_REVOKED = (
        "dcap.pck-not-revoked",
        f"{_QVL}.5.8",
        "Intel has revoked this platform's PCK certificate",
        "do not use this worker",
    )
    TCB_SIGNING_CHAIN = (
        "dcap.tcb-signing-chain",
        f"{_QVL}.6",
        "no TCB signing certificate under the pinned root is valid now",
        _REFETCH,
    )
    TCB_INFO_SIGNATURE = (
        "dcap.tcb-info-signature",
        f"{_QVL}.6 (TCB info)",
        "there is no TCB info for this platform that Intel signed",
        _REFETCH,
    )
    TCB_INFO_CURRENT = (
        "dcap.tcb-info-current",
        f"{_QVL}.6 (issueDate, nextUpdate)",
        "the TCB info is past its nextUpdate or not yet issued: an old one hides TCB recoveries",
        _REFETCH,
    )
    TCB_INFO_MATCH = (
        "dcap.tcb-info-match",
        f"{_QVL}.5.10, {_QVL}.5.11",
        "id, version, FMSPC or PCEID of the TCB info are not this platform's",
        _REFETCH,
    )
    QE_IDENTITY_SIGNATURE = (
        "dcap.qe-identity-signature",
        f"{_QVL}.9 (QE identity)",
        "there is no QE identity for this TEE that Intel signed",
        _REFETCH,
    )
    QE_IDENTITY_CURRENT = (
        "dcap.qe-identity-current",
        f"{_QVL}.9 (issueDate, nextUpdate)",
        "the QE identity is past its nextUpdate or not yet issued",
        _REFETCH,
    )
    EVALUATION_NUMBER = (
        "dcap.tcb-evaluation-number",
        "policy (minimum_tcb_evaluation_data_number)",
        "TCB info or QE identity answer an older TCB recovery than the policy asks for",
        _REFETCH,
    )
    QE_REPORT_SIGNATURE = (
        "dcap.qe-report-signature",
        f"{_QVL}.5.13",
        "the quoting enclave's report is not signed by the PCK",
        "the quote is forged or altered; do not use this worker",
    )
    ATTESTATION_KEY = (
        "dcap.attestation-key",
        f"{_QVL}.5.14",
        "the quoting enclave's report does not commit to the attestation key and nothing else",
        "the quote is forged or altered; do not use this worker",
    )
    QE_IDENTITY = (
        "dcap.qe-identity",
        f"{_QVL}.9.5 to 9.8",
        "MISCSELECT, ATTRIBUTES, MRSIGNER or ISVPRODID are not those of Intel's quoting enclave",
        "the quoting enclave is not Intel's; do not use this worker",
    )
    QUOTE_SIGNATURE = (
        "dcap.quote-signature",
        f"{_QVL}.5.17",
        "the attestation key did not sign this header and body",
        "the quote is forged or altered; do not use this worker",
    )
    TCB_STATUS = (
        "dcap.tcb-status",
        f"{_QVL}.5.18 to 5.20",
        "platform, TDX module and quoting enclave converge to a status that the policy does not accept",
        "have the operator update BIOS, microcode, TDX module or QE; or accept the status in tcb_statuses",
    )
    ADVISORIES = (
        "dcap.advisories",
        "policy (advisories)",
        "an accepted status other than UpToDate comes with advisories that the policy does not accept",
        "read the advisories; add them to the policy if you accept them",
    )
    MINIMUM_SVNS = (
        "dcap.minimum-svns",
        "policy (minimum_pcesvn, minimum_qe_isvsvn)",
        "the provisioning or quoting enclave is older than the policy asks for",
        "have the operator update the SGX platform software",
    )
