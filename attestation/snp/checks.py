"""The checks on a SEV-SNP report. Clauses: ABI is AMD 56860 1.58, KDS is AMD 57230, GHCB is AMD 56421."""

from ..checks import CheckId

_PIN = "compare with the release you trust, and pin the new value only if you know why it changed"


class SnpCheck(CheckId):
    """Everything that is checked of a SEV-SNP report and of the certificates that endorse it."""

    REPORT_VERSION = (
        "snp.report-version",
        "ABI 7.3 (VERSION)",
        "the report is of an older version than minimum_report_version",
        "update the host's SNP firmware",
    )
    ROOT = (
        "snp.root",
        "KDS 2 (ARK)",
        "no root of that product line is pinned, or the ARK supplied is another one",
        "list the product line's root; do not trust a chain that ends elsewhere",
    )
    CHAIN = (
        "snp.chain",
        "KDS 2 (chain of trust)",
        "the ASK or ASVK is not signed by the ARK, or the VCEK or VLEK is not signed by it",
        "fetch the certificates from AMD's KDS for this chip and TCB; if it fails again the key is forged",
    )
    VALIDITY = (
        "snp.certificate-validity",
        "RFC 5280 4.1.2.5",
        "a certificate of the chain is expired or not yet valid",
        "fetch the certificate again from AMD's KDS; check the verifier's clock",
    )
    CRL = (
        "snp.crl",
        "KDS 4 (CRL), RFC 5280 6.3",
        "the ASK, ASVK or ARK is revoked, or the CRL is not signed by the ARK",
        "fetch a current CRL; write allow_missing_crl = true only where none can be had",
    )
    CERTIFICATE_FORM = (
        "snp.certificate-form",
        "KDS 3 (VCEK and VLEK certificates)",
        "the certificate lacks the form AMD gives a VCEK or VLEK: P-384 key, RSASSA-PSS, names, extensions",
        "fetch the certificate from AMD's KDS",
    )
    PRODUCT = (
        "snp.product",
        "KDS 3 (productName), ABI 7.3 (CPUID_FAM_ID)",
        "report, certificate and root are not of one product line, or the policy does not list that line",
        "add the line to products if you trust it; mind that Milan is attacked by software alone",
    )
    SIGNING_KEY = (
        "snp.signing-key",
        "ABI 7.3 (SIGNING_KEY, MASK_CHIP_KEY)",
        "the report was signed by another kind of key than the certificate's, by none, or by a VLEK",
        "supply the right certificate; a VLEK proves the provider, not the chip: allow_vlek accepts it",
    )
    REPORT_SIGNATURE = (
        "snp.report-signature",
        "ABI 7.3 (SIGNATURE), 10.1",
        "the certificate's key did not sign these bytes with ECDSA on P-384 and SHA-384",
        "the report was altered, or another chip's certificate came with it; attest again",
    )
    CHIP_ID = (
        "snp.chip-id",
        "ABI 7.3 (CHIP_ID), KDS 3 (hwID)",
        "CHIP_ID is not the certificate's hwID; or not zero under a VLEK",
        "supply the VCEK of the chip that made the report; allow_masked_chip_id accepts a hidden identity",
    )
    CHIP_ALLOWED = (
        "snp.chip-allowed",
        "ABI 7.3 (CHIP_ID)",
        "the chip is not in chip_ids",
        "add the chip's identity if the machine is yours",
    )
    CSP_ID = (
        "snp.csp-id",
        "KDS 3 (cspID)",
        "the VLEK belongs to a provider that is not in csp_ids",
        "add the provider if you trust it",
    )
    CERTIFICATE_TCB = (
        "snp.certificate-tcb",
        "KDS 3 (SPL extensions), ABI 7.3 (REPORTED_TCB)",
        "the certificate was issued for another TCB than REPORTED_TCB",
        "fetch the VCEK for the TCB that the report names",
    )
    TCB_CLAIMED = (
        "snp.tcb-claimed",
        "ABI 7.3 (CURRENT_TCB)",
        "REPORTED_TCB claims more than CURRENT_TCB, the firmware that runs",
        "do not use this machine",
    )
    TCB_REPORTED = (
        "snp.tcb-reported",
        "ABI 7.3 (REPORTED_TCB)",
        "REPORTED_TCB is below minimum_tcb",
        "update the host's firmware and microcode, and have it report them",
    )
    TCB_COMMITTED = (
        "snp.tcb-committed",
        "ABI 7.3 (COMMITTED_TCB)",
        "COMMITTED_TCB is below minimum_tcb: the host can go back to older firmware",
        "commit the firmware on the host (SNP_COMMIT)",
    )
    TCB_LAUNCH = (
        "snp.tcb-launch",
        "ABI 7.3 (LAUNCH_TCB)",
        "the guest was launched under firmware below minimum_tcb",
        "launch the guest again on the updated host",
    )
    TCB_CURRENT = (
        "snp.tcb-current",
        "ABI 7.3 (CURRENT_TCB)",
        "CURRENT_TCB is below minimum_tcb",
        "update the host's firmware and microcode",
    )
    COMMITTED_FIRMWARE = (
        "snp.committed-firmware",
        "ABI 3.3, 7.3 (COMMITTED_TCB, COMMITTED_*)",
        "the running firmware is provisional (COMMITTED differs from CURRENT), or older than COMMITTED",
        "commit the firmware on the host, or write allow_provisional_firmware = true",
    )
    FIRMWARE_VERSION = (
        "snp.firmware-version",
        "ABI 7.3 (CURRENT_*, COMMITTED_*)",
        "the firmware is older than minimum_version and minimum_build",
        "update the host's SNP firmware",
    )
    MITIGATIONS = (
        "snp.mitigations",
        "ABI 7.3 (LAUNCH_MIT_VECTOR, CURRENT_MIT_VECTOR)",
        "a required mitigation was not in force at launch or now, or the report does not say",
        "update the host's firmware and launch the guest again",
    )
    DEBUG = (
        "snp.guest-debug",
        "ABI 4.3 (DEBUG)",
        "the guest policy lets the host read and write the guest's memory",
        "launch the guest without DEBUG; never accept this for secrets",
    )
    MIGRATION = (
        "snp.guest-migration",
        "ABI 4.3 (MIGRATE_MA), 7.3 (REPORT_ID_MA)",
        "the guest may have a migration agent, or has one that is not listed",
        "launch without MIGRATE_MA, or write allow_migrate_ma = true and list migration_report_ids",
    )
    SMT = (
        "snp.smt",
        "ABI 4.3 (SMT), 7.3 (PLATFORM_INFO)",
        "the guest policy or the host has simultaneous multithreading on",
        "forbid SMT in the guest policy, or write allow_smt = true",
    )
    GUEST_POLICY = (
        "snp.guest-policy",
        "ABI 4.3",
        "the guest policy has a reserved bit wrong, allows CXL memory, or lacks a bit of require_guest",
        "launch the guest under the policy that you want, or change require_guest or allow_cxl",
    )
    GUEST_ABI = (
        "snp.guest-abi",
        "ABI 4.3 (ABI_MAJOR, ABI_MINOR)",
        "the guest policy admits an older ABI than minimum_guest_abi",
        "launch the guest with a higher ABI version in its policy",
    )
    GUEST_SVN = (
        "snp.guest-svn",
        "ABI 7.3 (GUEST_SVN)",
        "the guest's security version is below minimum_guest_svn",
        "use a newer image",
    )
    VMPL = (
        "snp.vmpl",
        "ABI 7.3 (VMPL)",
        "the report was asked for from a privilege level that is not in vmpls",
        "add the level if that is where your software runs",
    )
    ALIAS_CHECK = (
        "snp.platform-alias-check",
        "ABI 7.3 (ALIAS_CHECK_COMPLETE), AMD-SB-3015",
        "the firmware does not confirm that memory addresses have no aliases (BadRAM)",
        "update the host's firmware; old report versions cannot say: allow_missing_alias_check = true",
    )
    PLATFORM_INFO = (
        "snp.platform-info",
        "ABI 7.3 (PLATFORM_INFO)",
        "the host lacks a feature of require_platform, has trusted IO on, or sets a bit that is not known",
        "configure the host, or change require_platform, allow_tio or allow_unknown_platform_bits",
    )
    REPORT_DATA = (
        "snp.report-data",
        "ABI 7.3 (REPORT_DATA), docs/spec/evidence.md, Binding",
        "the report was made for other keys, another nonce, other devices or another workload",
        "attest again; if it repeats, somebody relays another machine's report",
    )
    MEASUREMENT = (
        "snp.measurement",
        "ABI 7.3 (MEASUREMENT), 8.17",
        "the memory that the guest was launched with is not in measurements",
        _PIN,
    )
    HOST_DATA = (
        "snp.host-data",
        "ABI 7.3 (HOST_DATA)",
        "HOST_DATA, which the host set at launch, is not in host_data",
        _PIN,
    )
    FAMILY_ID = ("snp.family-id", "ABI 7.3 (FAMILY_ID)", "FAMILY_ID is not in family_ids", _PIN)
    IMAGE_ID = ("snp.image-id", "ABI 7.3 (IMAGE_ID)", "IMAGE_ID is not in image_ids", _PIN)
    ID_KEY = (
        "snp.id-key",
        "ABI 7.3 (ID_KEY_DIGEST)",
        "the key that signed the ID block is not in id_key_digests",
        _PIN,
    )
    AUTHOR_KEY = (
        "snp.author-key",
        "ABI 7.3 (AUTHOR_KEY_DIGEST, AUTHOR_KEY_EN)",
        "the author key is not in author_key_digests, or AUTHOR_KEY_EN contradicts it",
        _PIN,
    )
    REPORT_ID = (
        "snp.report-id",
        "ABI 7.3 (REPORT_ID)",
        "the guest instance is not in report_ids",
        "REPORT_ID changes with every launch; list the running instance",
    )
