"""What a policy may say of any DCAP platform; the [tdx] and [sgx] sections share these keys."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..errors import PolicyError
from ..section import MISSING, Section
from .status import TcbStatus

ACCEPTABLE = {str(status) for status in TcbStatus} - {TcbStatus.REVOKED, TcbStatus.UNSUPPORTED}
MAX_GRACE_HOURS = 24 * 90


@dataclass(frozen=True, slots=True, kw_only=True)
class DcapPolicy:
    """Platform, quoting enclave and collateral. `fmspcs` and `ppids` restrict platforms if not None.

    `collateral_grace` is how long collateral is used after its nextUpdate: zero unless written out.
    """

    tcb_statuses: frozenset[str]
    advisories: frozenset[str]
    allow_any_advisory: bool
    minimum_tcb_evaluation_data_number: int
    minimum_pcesvn: int
    minimum_qe_isvsvn: int
    fmspcs: frozenset[bytes] | None
    ppids: frozenset[bytes] | None
    collateral_grace: timedelta
    allow_missing_root_crl: bool
    allow_missing_pck_crl: bool


def platform_keys(section: Section) -> dict[str, Any]:
    """The keys that `DcapPolicy` holds, read from `section`."""
    statuses = section.choices("tcb_statuses", ACCEPTABLE, [TcbStatus.UP_TO_DATE.value])
    if not statuses:
        raise PolicyError(f'{section.name}.tcb_statuses is empty; write for example ["UpToDate"]')
    return {
        "tcb_statuses": statuses,
        "advisories": section.texts("advisories", []),
        "allow_any_advisory": section.flag("allow_any_advisory"),
        "minimum_tcb_evaluation_data_number": section.integer(
            "minimum_tcb_evaluation_data_number", 0, 0xFFFFFFFF
        ),
        "minimum_pcesvn": section.integer("minimum_pcesvn", 0, 0xFFFF, 0),
        "minimum_qe_isvsvn": section.integer("minimum_qe_isvsvn", 0, 0xFFFF, 0),
        "fmspcs": section.digests("fmspcs", 6) if "fmspcs" in section else None,
        "ppids": section.digests("ppids", 16) if "ppids" in section else None,
        "collateral_grace": timedelta(hours=section.integer("collateral_grace_hours", 0, MAX_GRACE_HOURS, 0)),
        "allow_missing_root_crl": section.flag("allow_missing_root_crl"),
        "allow_missing_pck_crl": section.flag("allow_missing_pck_crl"),
    }


def report_data_keys(section: Section) -> dict[str, Any]:
    """`report_data` and `allow_any_report_data`: what a quote without a binding of ours may carry."""
    return {
        "report_data": section.digests("report_data", 64, []),
        "allow_any_report_data": section.flag("allow_any_report_data"),
    }


def listed_or_any(
    section: Section, key: str, size: int, escape: str, escaped: bool
) -> frozenset[bytes] | None:
    """The array `key`, or None where the policy writes out that anything goes; one of the two, not both."""
    hint = f"list {size}-byte values in hexadecimal, or write {escape}"
    if escaped and key in section:
        raise PolicyError(f"{section.name}.{key} is listed and yet {escape} is written; choose one")
    found = section.digests(key, size, [] if escaped else MISSING, hint=hint)
    return None if escaped else found
