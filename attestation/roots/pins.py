"""Fingerprints (SHA-256 of the DER) and sources of every certificate under this package."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pin:
    """A certificate's SHA-256 fingerprint and where its owner publishes it."""

    fingerprint: str
    source: str


AMD_KDS = "kdsintf.amd.com, cert_chain of /vcek/v1 and /vlek/v1 for the product"
INTEL_PCS = "certificates.trustedservices.intel.com, Intel_SGX_Provisioning_Certification_RootCA"
AWS_NITRO = "aws-nitro-enclaves.amazonaws.com/AWS_NitroEnclaves_Root-G1.zip"
AZURE_TPM = "learn.microsoft.com, trusted launch FAQ: certificates of the virtual TPM"
GOOGLE_TPM = "Google Cloud, EK/AK CA Root of shielded VMs; also in github.com/google/go-tpm-tools"
SIMULATOR = "enclave/simulator/make_roots.py; private keys beside it, INSECURE"
NVTRUST = "github.com/NVIDIA/nvtrust, local GPU verifier, certs/"

PINS: dict[str, dict[str, Pin]] = {
    "amd": {
        "genoa_ark": Pin("4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1", AMD_KDS),
        "genoa_ask": Pin("5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521", AMD_KDS),
        "genoa_asvk": Pin("197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372", AMD_KDS),
        "milan_ark": Pin("69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd", AMD_KDS),
        "milan_ask": Pin("67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b", AMD_KDS),
        "milan_asvk": Pin("c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5", AMD_KDS),
        "turin_ark": Pin("1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a", AMD_KDS),
        "turin_ask": Pin("5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185", AMD_KDS),
        "turin_asvk": Pin("104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c", AMD_KDS),
    },
    "aws": {
        "nitro_enclaves_root_g1": Pin(
            "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b", AWS_NITRO
        ),
    },
    "azure": {
        "azure_tpm_intermediate_01": Pin(
            "a2daccd149cd2eadb82045d3cd24336699a0b2d4e50237a76448d107896cf8c7", AZURE_TPM
        ),
        "azure_tpm_intermediate_03": Pin(
            "fd7c92dabce4dcec9feaa30f8b087ada0598413189182152b881f5564064a29c", AZURE_TPM
        ),
        "azure_tpm_root_2023": Pin(
            "e6c596b17f8ffefba5c300f714cfb1260c6028704ecf7becc4ab5018efb00e95", AZURE_TPM
        ),
    },
    "google": {
        "ek_ak_root": Pin("594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2", GOOGLE_TPM),
    },
    "intel": {
        "sgx_root_ca": Pin("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3", INTEL_PCS),
    },
    "nvidia": {
        "corim_signing_root_ca": Pin(
            "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1", NVTRUST
        ),
        "device_identity_ca": Pin(
            "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48", NVTRUST
        ),
    },
    "simulator/amd": {
        "genoa_ark": Pin("63dcc718ad5a7df2dca8fd716e816e1d4a5a0e8d2f3be6f39fe23f66ffcd5328", SIMULATOR),
        "genoa_ask": Pin("4e1495667582675b689f20970301d009009c8a063ccef53e61ce76bb104d629a", SIMULATOR),
    },
    "simulator/nvidia": {
        "device_identity_ca": Pin(
            "bf27528c92afca9ac69a923d26c957e597cf928ca7653c7e706ec2ab5dec73d4", SIMULATOR
        ),
    },
}
