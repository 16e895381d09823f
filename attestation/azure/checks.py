"""The checks on Azure's confidential machines: the paravisor's report, and container instances."""

from ..checks import CheckId

_HCL = "Azure confidential VM guest attestation, HCL report"
_UVM = "Confidential containers on ACI, UVM endorsements"


class AzureCheck(CheckId):
    """Checks on a confidential virtual machine, beyond those on its hardware report and its quote."""

    HARDWARE = (
        "azure.hardware",
        f"{_HCL}, report type",
        "the hardware report is missing, or of another TEE than the evidence claims",
        "gather the evidence on the machine itself, with the quote of its TEE",
    )
    RUNTIME = (
        "azure.runtime",
        f"{_HCL}, runtime data",
        "the hardware report's data is not the hash of the runtime data, or the rest is not zero",
        "the runtime data was altered or belongs to another machine",
    )
    AK = (
        "azure.ak",
        f"{_HCL}, runtime data (HCLAkPub)",
        "the runtime data does not name exactly one attestation key, RSA of 2048 bits or more",
        "do not use a key from elsewhere: only the runtime data's is vouched for",
    )
    SECURE_BOOT = (
        "azure.secure-boot",
        f"{_HCL}, vm-configuration (secure-boot)",
        "the machine is not configured for secure boot, or does not say",
        "enable secure boot, or write allow_no_secure_boot = true",
    )
    TPM = (
        "azure.tpm",
        f"{_HCL}, vm-configuration (tpm-enabled)",
        "the machine has no virtual TPM, or does not say",
        "create the machine with a virtual TPM",
    )
    USER_DATA = (
        "azure.user-data",
        f"{_HCL}, runtime data (user-data)",
        "the user data is not what the verifier expects to be bound",
        "the report belongs to another workload",
    )


class AciCheck(CheckId):
    """Checks on a confidential container instance, beyond those on its hardware report."""

    UVM_SIGNATURE = (
        "aci.uvm-signature",
        f"{_UVM}; RFC 9052, 4.4",
        "the first certificate of x5chain did not sign the endorsement with PS384",
        "supply the endorsement that the platform mounts into the container",
    )
    UVM_ISSUER = (
        "aci.uvm-issuer",
        f"{_UVM} (iss); policy (issuers)",
        "the endorsement's issuer is not one that the policy lists",
        "add its did:x509 to issuers if you trust it",
    )
    UVM_CHAIN = (
        "aci.uvm-chain",
        "did:x509 0.1, resolving; RFC 9360",
        "no path leads from the signer to the authority whose fingerprint the issuer's did:x509 names",
        "the endorsement is not from the issuer that it names",
    )
    UVM_VALIDITY = (
        "aci.uvm-validity",
        f"{_UVM} (signingtime)",
        "a certificate of the chain was not valid when the endorsement says it was signed",
        "supply a newer endorsement",
    )
    UVM_USAGE = (
        "aci.uvm-usage",
        "did:x509 0.1, eku policy",
        "the signer's certificate lacks the key usage that the issuer's did:x509 names",
        "the endorsement is not from the issuer that it names",
    )
    UVM_FEED = (
        "aci.uvm-feed",
        f"{_UVM} (feed); policy (feeds)",
        "the endorsement is of another product than the policy lists",
        "add its feed to feeds if you trust it",
    )
    UVM_SVN = (
        "aci.uvm-svn",
        f"{_UVM} (x-ms-sevsnpvm-guestsvn); policy (minimum_svn)",
        "the utility VM's security version is below the policy's minimum",
        "redeploy on a newer platform",
    )
    MEASUREMENT = (
        "aci.measurement",
        f"{_UVM} (x-ms-sevsnpvm-launchmeasurement)",
        "the report's launch measurement is not the endorsed one",
        "the endorsement is of another utility VM",
    )
    HOST_DATA = (
        "aci.host-data",
        "Confidential containers on ACI, confidential computing enforcement policy",
        "HOST_DATA is not the SHA-256 of the security policy that was given, or none was",
        "supply the policy that the container group was deployed with",
    )
    SECURITY_POLICY = (
        "aci.security-policy",
        "policy (security_policies)",
        "the container group's security policy is not one that the policy lists",
        "compare with the policy generated for the deployment you trust",
    )
