"""Every section of a policy, key by key and field by field: for documents, profiles and explanations."""

from .azure import AZURE_ACI, AZURE_VTPM, MAA
from .composite import COMPOSITE
from .general import TOP, WORKLOAD
from .nvidia import NRAS, NVIDIA_GPU, NVIDIA_SWITCH
from .sgx import SGX
from .snp import SNP
from .tdx import TDX
from .tpm import NITRO, TPM
from .words import Guide, Key, Kind, Statement, Writing, fill

GUIDES: dict[str, Guide] = {
    "workload": WORKLOAD,
    "snp": SNP,
    "tdx": TDX,
    "sgx": SGX,
    "nvidia_gpu": NVIDIA_GPU,
    "nvidia_switch": NVIDIA_SWITCH,
    "nras": NRAS,
    "tpm": TPM,
    "azure_vtpm": AZURE_VTPM,
    "azure_aci": AZURE_ACI,
    "maa": MAA,
    "nitro": NITRO,
    "composite": COMPOSITE,
}

__all__ = ["GUIDES", "TOP", "Guide", "Key", "Kind", "Statement", "Writing", "fill"]
