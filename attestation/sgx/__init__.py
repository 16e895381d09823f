"""Intel SGX: DCAP quotes of an enclave (version 3, and the SGX form of 4 and 5), the [sgx] policy."""

from .appraise import appraise
from .checks import SgxCheck
from .policy import SgxPolicy

__all__ = ["SgxCheck", "SgxPolicy", "appraise"]
