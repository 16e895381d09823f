"""The same evidence put to dcap-qvl (a Rust verifier with Python bindings), for comparison."""

import re
from datetime import datetime

import dcap_qvl  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.serialization import Encoding

from attestation import Collateral, Kind, Roots
from attestation.dcap.quote import Quote

REJECTED = "rejected"


def verify(quote: bytes, collateral: Collateral, now: datetime, roots: Roots | None = None) -> str:
    """The TCB status that dcap-qvl reports, or REJECTED, or why it cannot be asked at all."""
    try:
        packed = pack(quote, collateral)
    except (ValueError, IndexError) as error:
        return f"not expressible: {error}"
    try:
        if roots is None:
            return str(dcap_qvl.verify(quote, packed, int(now.timestamp())).status)
        (root,) = roots.of("intel").values()
        der = root.public_bytes(Encoding.DER)
        return str(dcap_qvl.verify_with_root_ca(quote, packed, der, int(now.timestamp())).status)
    except (ValueError, RuntimeError):
        return REJECTED


def pack(quote: bytes, collateral: Collateral) -> dcap_qvl.QuoteCollateralV3:
    """The collateral in dcap-qvl's form, the PCK CA's chain taken from the quote."""
    tcb_info, tcb_signature = _member(collateral.of(Kind.INTEL_TCB_INFO)[0], b"tcbInfo")
    identity, identity_signature = _member(collateral.of(Kind.INTEL_QE_IDENTITY)[0], b"enclaveIdentity")
    signing = collateral.of(Kind.INTEL_TCB_SIGNING_CHAIN)[0].decode("ascii")
    begin = "-----BEGIN"
    pem = Quote.from_bytes(quote).certification_data.rstrip(b"\0").decode("ascii", "replace")
    return dcap_qvl.QuoteCollateralV3(
        begin + begin.join(pem.split(begin)[2:]),
        collateral.of(Kind.INTEL_ROOT_CRL)[0],
        collateral.of(Kind.INTEL_PCK_CRL)[0],
        signing,
        tcb_info,
        tcb_signature,
        signing,
        identity,
        identity_signature,
    )


def _member(raw: bytes, name: bytes) -> tuple[str, bytes]:
    pattern = rb'\{"' + name + rb'":(\{.*\}),"signature":"([0-9a-fA-F]+)"\}\s*'
    found = re.fullmatch(pattern, raw, re.DOTALL)
    if found is None:
        raise ValueError(f"no signed {name.decode()}")
    return found[1].decode("utf-8"), bytes.fromhex(found[2].decode())
