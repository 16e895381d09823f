"""Microsoft Azure Attestation: tokens that the service issues about confidential machines."""

from typing import TYPE_CHECKING

from ..lazily import lazily

if TYPE_CHECKING:
    from ..jose import Token
    from .appraisal import appraise
    from .checks import MaaCheck
    from .policy import MaaPolicy

__all__ = [
    "MaaCheck",
    "MaaPolicy",
    "Token",
    "appraise",
]

__getattr__ = lazily(
    __name__,
    {
        "..jose": "Token",
        ".appraisal": "appraise",
        ".checks": "MaaCheck",
        ".policy": "MaaPolicy",
    },
)
