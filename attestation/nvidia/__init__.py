"""NVIDIA GPUs and NVSwitches: SPDM reports, device chains, signed reference manifests."""

from typing import TYPE_CHECKING

from ..lazily import lazily

if TYPE_CHECKING:
    from .appraisal import appraise, appraise_rim, appraise_switch
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

__getattr__ = lazily(
    __name__,
    {
        ".appraisal": "appraise appraise_rim appraise_switch",
        ".chain": "Certificate CertificateChain",
        ".checks": "NvidiaCheck NvidiaListCheck",
        ".devices": "appraise_list",
        ".opaque": "FeatureFlag OpaqueData OpaqueField OpaqueType",
        ".policy": "NvidiaGpuPolicy NvidiaSwitchPolicy",
        ".report": "GpuReport Measurement MeasurementsRequest",
        ".rim": "Rim",
    },
)
