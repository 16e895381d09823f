"""Intel TDX: quotes of version 4 and 5 with TD report 1.0 and 1.5, event logs, the [tdx] policy."""

from ..dcap.checks import DcapCheck
from ..dcap.quote import Quote
from .appraise import appraise
from .checks import TdxCheck
from .event_log import EventLog
from .policy import TdxPolicy
from .report import TdAttributes, TdReport

__all__ = ["DcapCheck", "EventLog", "Quote", "TdAttributes", "TdReport", "TdxCheck", "TdxPolicy", "appraise"]
