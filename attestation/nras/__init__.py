"""NVIDIA's Remote Attestation Service: what it says of GPUs and switches, in signed tokens."""

from typing import TYPE_CHECKING

from ..lazily import lazily

if TYPE_CHECKING:
    from .appraisal import appraise
    from .checks import NrasCheck, NrasDeviceCheck
    from .policy import NrasPolicy
    from .response import NrasResponse

__all__ = [
    "NrasCheck",
    "NrasDeviceCheck",
    "NrasPolicy",
    "NrasResponse",
    "appraise",
]

__getattr__ = lazily(
    __name__,
    {
        ".appraisal": "appraise",
        ".checks": "NrasCheck NrasDeviceCheck",
        ".policy": "NrasPolicy",
        ".response": "NrasResponse",
    },
)
