"""AWS Nitro Enclaves: attestation documents signed by the hypervisor."""

from .appraise import appraise
from .checks import NitroCheck
from .document import NitroDocument
from .policy import NitroPolicy

__all__ = ["NitroCheck", "NitroDocument", "NitroPolicy", "appraise"]
