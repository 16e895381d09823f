"""Intel SGX: DCAP quotes of an enclave (version 3, and the SGX form of 4 and 5), the [sgx] policy.

What verifies is loaded when it is first asked for: a policy that names no SGX does not pay for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .checks import SgxCheck
from .policy import SgxPolicy

if TYPE_CHECKING:
    from .appraisal import appraise

__all__ = ["SgxCheck", "SgxPolicy", "appraise"]


def __getattr__(name: str) -> Any:
    if name != "appraise":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = import_module(".appraisal", __name__).appraise
    return found
