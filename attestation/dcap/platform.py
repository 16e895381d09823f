"""What is known of a platform while its quote is being appraised, and what the policy requires of it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from ..context import Context
from ..verdict import Sheet
from .certificate import Certificate
from .checks import DcapCheck as Check
from .collateral import PckChain
from .documents import QeIdentity, TcbInfo
from .enclave import EnclaveReport
from .policy import DcapPolicy
from .quote import Quote

_ALL = frozenset(Check)


@dataclass(slots=True)
class Platform:
    """What was established about the platform that made `quote`, step by step on `sheet`."""

    sheet: Sheet
    quote: Quote
    context: Context
    rules: DcapPolicy
    tee: str
    chain: PckChain | None = None
    signers: tuple[Certificate, ...] = ()
    tcb_info: TcbInfo | None = None
    qe_identity: QeIdentity | None = None
    qe_report: EnclaveReport = field(init=False)

    def __post_init__(self) -> None:
        self.qe_report = _enclave_report(self.quote.qe_report)


def required_checks(rules: DcapPolicy) -> frozenset[Check]:
    """The shared checks that must pass under `rules`; missing CRLs are waived only where it says so."""
    waived: set[Check] = set()
    if rules.allow_missing_root_crl:
        waived |= {Check.ROOT_CRL, Check.CA_NOT_REVOKED}
    if rules.allow_missing_pck_crl:
        waived |= {Check.PCK_CRL, Check.PCK_NOT_REVOKED}
    return _ALL - waived if waived else _ALL


@lru_cache(maxsize=128)
def _enclave_report(raw: bytes) -> EnclaveReport:
    return EnclaveReport.from_bytes(raw)


@lru_cache(maxsize=256)
def day(moment: datetime) -> str:
    """`moment` in UTC to the second, as Intel writes dates."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
