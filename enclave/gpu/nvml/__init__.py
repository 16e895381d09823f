"""The real GPU: its confidential-computing mode and evidence over NVML, and whether it may serve.

nvidia-ml-py (extra `nvidia`) is imported when a library is opened, not before. Imports no torch.
"""

from .admission import Admission as Admission
from .admission import admit as admit
from .device import NvmlGpu as NvmlGpu
from .errors import Finding as Finding
from .errors import GpuRefused as GpuRefused
from .errors import GpuUnavailable as GpuUnavailable
from .library import Nvml as Nvml
from .state import ConfidentialState as ConfidentialState
from .state import refusals as refusals
