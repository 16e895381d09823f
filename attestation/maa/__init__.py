"""Microsoft Azure Attestation: tokens that the service issues about confidential machines."""

from ..jose import Token
from .appraise import appraise
from .checks import MaaCheck
from .policy import MaaPolicy

__all__ = ["MaaCheck", "MaaPolicy", "Token", "appraise"]
