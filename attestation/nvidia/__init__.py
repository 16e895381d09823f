"""NVIDIA GPUs and NVSwitches: SPDM reports, device chains, signed reference manifests."""

from .appraise import appraise, appraise_rim, appraise_switch
from .chain import Certificate, CertificateChain
from .checks import NvidiaCheck, NvidiaListCheck
from .devices import appraise_list
from .opaque import FeatureFlag, OpaqueData, OpaqueField, OpaqueType
from .policy import NvidiaGpuPolicy, NvidiaSwitchPolicy
from .report import GpuReport, Measurement, MeasurementsRequest
from .rim import Rim

__all__ = [
    "Certificate",
    "CertificateChain",
    "FeatureFlag",
    "GpuReport",
    "Measurement",
    "MeasurementsRequest",
    "NvidiaCheck",
    "NvidiaGpuPolicy",
    "NvidiaListCheck",
    "NvidiaSwitchPolicy",
    "OpaqueData",
    "OpaqueField",
    "OpaqueType",
    "Rim",
    "appraise",
    "appraise_list",
    "appraise_rim",
    "appraise_switch",
]
