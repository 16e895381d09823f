"""The part of a verification that SGX and TDX quotes share, from the pinned root to the TCB status."""

from ..context import Context
from ..verdict import Sheet
from .certificate import anchor
from .endorsement import check_chain, check_header, check_pck_crl, check_root_crl, check_signatures
from .levels import check_documents, check_qe_identity, check_tcb
from .platform import Platform
from .policy import DcapPolicy
from .quote import Quote

VENDOR = "intel"


def appraise_platform(
    sheet: Sheet, quote: Quote, context: Context, rules: DcapPolicy, tee: str, svns: tuple[bytes, ...] = ()
) -> Platform:
    """Record the shared checks on `sheet` and return what was learned. `tee` is "TDX" or "SGX".

    `svns`: for TDX the TEE TCB SVNs of launch and, from TD report 1.5 on, of now.

    1. header;  2. PCK chain to the pinned root, revocation;  3. collateral that Intel signed, current;
    4. PCK -> QE report -> attestation key -> quote;  5. TCB status.
    """
    platform = Platform(sheet, quote, context, rules, tee)
    check_header(platform)  # 1
    anchors = tuple(anchor(root) for root in context.policy.roots.der(VENDOR).values())
    check_chain(platform, anchors)  # 2
    check_root_crl(platform, anchors)
    check_pck_crl(platform)
    check_documents(platform)  # 3
    check_signatures(platform)  # 4
    check_qe_identity(platform)
    check_tcb(platform, svns)  # 5
    return platform
