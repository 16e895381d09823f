"""NVIDIA's Remote Attestation Service: what it says of GPUs and switches, in signed tokens."""

from .appraise import appraise
from .checks import NrasCheck, NrasDeviceCheck
from .policy import NrasPolicy
from .response import NrasResponse

__all__ = ["NrasCheck", "NrasDeviceCheck", "NrasPolicy", "NrasResponse", "appraise"]
