"""AWS Nitro Enclaves: attestation documents signed by the hypervisor."""

from typing import TYPE_CHECKING

from ..lazily import lazily

if TYPE_CHECKING:
    from .appraisal import appraise
    from .checks import NitroCheck
    from .document import NitroDocument
    from .policy import NitroPolicy

__all__ = [
    "NitroCheck",
    "NitroDocument",
    "NitroPolicy",
    "appraise",
]

__getattr__ = lazily(
    __name__,
    {
        ".appraisal": "appraise",
        ".checks": "NitroCheck",
        ".document": "NitroDocument",
        ".policy": "NitroPolicy",
    },
)
