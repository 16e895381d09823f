"""TCB levels and how their statuses converge, as Intel's quote verification library has it (4.1.2.5)."""

from collections.abc import Iterable
from dataclasses import dataclass

from .pck import PckExtension
from .status import TcbStatus

_S = TcbStatus
_CURRENT = {_S.UP_TO_DATE, _S.SW_HARDENING, _S.CONFIGURATION, _S.CONFIGURATION_AND_SW_HARDENING}
_OUT_OF_DATE = {_S.OUT_OF_DATE, _S.OUT_OF_DATE_CONFIGURATION}
_CONFIGURATION = {_S.CONFIGURATION, _S.CONFIGURATION_AND_SW_HARDENING, _S.OUT_OF_DATE_CONFIGURATION}
PLATFORM_STATUSES = frozenset(_CURRENT | _OUT_OF_DATE | {_S.REVOKED})
COMPONENT_STATUSES = frozenset({_S.UP_TO_DATE, _S.OUT_OF_DATE, _S.REVOKED})


@dataclass(frozen=True, slots=True)
class PlatformLevel:
    """One platform TCB level; `tdx` is empty in TCB info for SGX."""

    sgx: bytes
    tdx: bytes
    pcesvn: int
    status: TcbStatus
    date: str
    advisories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SvnLevel:
    """One TCB level of a TDX module or an enclave, by its ISVSVN."""

    isvsvn: int
    status: TcbStatus
    date: str
    advisories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModuleIdentity:
    """What a TDX module must be: `number` is its major version, 0 for the first (`tdxModule`)."""

    number: int
    mrsigner: bytes
    attributes: bytes
    attributes_mask: bytes
    levels: tuple[SvnLevel, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one SVN vector comes to: platform, TDX module (None for SGX or major version 0), all in one."""

    platform: PlatformLevel | None
    module: SvnLevel | None
    status: TcbStatus


def platform_level(
    levels: Iterable[PlatformLevel], pck: PckExtension, tee_tcb_svn: bytes
) -> PlatformLevel | None:
    """The first level that the platform reaches in every component; `tee_tcb_svn` is empty for SGX.

    From module major version 1 on (`tee_tcb_svn[1]`), the first two TDX components are the module's
    own and are judged by its identity instead (4.1.2.5.2.1.3).
    """
    skip = 2 if tee_tcb_svn and tee_tcb_svn[1] > 0 else 0
    for level in levels:
        sgx = all(map(int.__ge__, pck.components, level.sgx)) and pck.pcesvn >= level.pcesvn
        if sgx and all(map(int.__ge__, tee_tcb_svn[skip:], level.tdx[skip:])):
            return level
    return None


def svn_level(levels: Iterable[SvnLevel], isvsvn: int) -> SvnLevel | None:
    """The first level that `isvsvn` reaches."""
    return next((level for level in levels if isvsvn >= level.isvsvn), None)


def converge(platform: TcbStatus, components: Iterable[TcbStatus]) -> TcbStatus:
    """The status of a platform with its TDX module and quoting enclave (4.1.2.5.2.4)."""
    found = set(components)
    if platform not in PLATFORM_STATUSES or found - COMPONENT_STATUSES:
        return _S.UNSUPPORTED
    if _S.REVOKED in found:
        return _S.REVOKED
    if _S.OUT_OF_DATE in found and platform in _CURRENT:
        return _S.OUT_OF_DATE_CONFIGURATION if platform in _CONFIGURATION else _S.OUT_OF_DATE
    return platform


def relaunch(launch: TcbStatus, current: TcbStatus) -> TcbStatus:
    """The status of a TD launched under `launch` on a platform that is now at `current` (4.1.2.5.20).

    An out-of-date TD whose platform has been updated since needs only a new launch.
    """
    if current is _S.UNSUPPORTED:
        return current
    if launch in _OUT_OF_DATE and current in _CURRENT:
        configure = launch in _CONFIGURATION or current in _CONFIGURATION
        return _S.RELAUNCH_CONFIGURATION if configure else _S.RELAUNCH
    return launch
