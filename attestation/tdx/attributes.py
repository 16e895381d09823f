"""ATTRIBUTES of a TD; apart, so that a policy loads without the parsers."""

from enum import IntFlag


class TdAttributes(IntFlag):
    """ATTRIBUTES of a TD (TDX Module ABI, TD_PARAMS). Bits without a name here are reserved.

    Bits 0 to 7 put the TD under debug; 8 to 31 concern its security; 32 to 63 are others.
    """

    DEBUG = 1 << 0
    HGS_PLUS_PROF = 1 << 4
    PERF_PROF = 1 << 5
    PMT_PROF = 1 << 6
    ICSSD = 1 << 16
    LASS = 1 << 27
    SEPT_VE_DISABLE = 1 << 28
    MIGRATABLE = 1 << 29
    PKS = 1 << 30
    KL = 1 << 31
    TPA = 1 << 62
    PERFMON = 1 << 63
