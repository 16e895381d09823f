"""The words for how current a TCB is; apart, so that a policy loads without the verifier."""

from enum import StrEnum


class TcbStatus(StrEnum):
    """How current a TCB is. UNSUPPORTED stands for no matching level and for unknown words."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING = "SWHardeningNeeded"
    CONFIGURATION = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING = "ConfigurationAndSWHardeningNeeded"
    RELAUNCH = "TDRelaunchAdvised"
    RELAUNCH_CONFIGURATION = "TDRelaunchAdvisedConfigurationNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"
    UNSUPPORTED = "Unsupported"
