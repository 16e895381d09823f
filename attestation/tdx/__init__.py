"""Intel TDX: quotes of version 4 and 5 with TD report 1.0 and 1.5, event logs, the [tdx] policy.

What verifies is loaded when it is first asked for: a policy that names no TDX does not pay for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .attributes import TdAttributes
from .checks import TdxCheck
from .policy import TdxPolicy

if TYPE_CHECKING:
    from ..dcap.quote import Quote
    from .appraisal import appraise
    from .event_log import EventLog
    from .report import TdReport

_LATER = {
    "EventLog": ".event_log",
    "Quote": "..dcap.quote",
    "TdReport": ".report",
    "appraise": ".appraisal",
}

__all__ = ["EventLog", "Quote", "TdAttributes", "TdReport", "TdxCheck", "TdxPolicy", "appraise"]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_LATER[name], __name__), name)
    return found
