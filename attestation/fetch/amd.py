"""AMD's Key Distribution Service (57230, chapter 4): VCEK, ASK or ASVK and ARK, and the ARK's CRL."""

from collections.abc import Iterable, Iterator
from functools import partial

from .. import certificates
from ..certificates import Certificate
from ..collateral import Kind
from ..collateral_store import Item
from ..crl import load_crl
from ..errors import CollateralUnavailable, MalformedEvidence
from ..snp import EndorsementKey, Product, SigningKey, SnpReport, read_table
from ..snp.endorsement import is_endorsement
from ..snp.table import CERTIFICATES
from .request import Items, Reply, Request
from .services import Service

MAX_CRL = 1024 * 1024
_AUTHORITY = {"vcek": "SEV-", "vlek": "SEV-VLEK-"}


def product_line(
    report: SnpReport, endorsements: Iterable[bytes] = (), product: Product | None = None
) -> Product:
    """The line of `report`'s processor: as it says, else as a certificate with it says, else `product`.

    Reports of version 2 do not say; CollateralUnavailable if nothing else does.
    """
    keys = endorsement_keys(endorsements)
    line = report.product or _turin(report) or next((key.product for key in keys if key.product), product)
    if line is None:
        raise CollateralUnavailable(
            f"a report of version {report.version} does not name its processor; "
            "say which it is: --product Milan, Genoa or Turin"
        )
    return line


def authorities(report: SnpReport, line: Product) -> list[Request]:
    """Requests for ASK (or ASVK) and ARK of `line`, and for the ARK's CRL."""
    role = "vlek" if report.signer_info.signing_key is SigningKey.VLEK else "vcek"
    chain = Request(
        service=Service.AMD_KDS,
        path=f"/{role}/v1/{line}/cert_chain",
        read=partial(_chain, authority=f"{_AUTHORITY[role]}{line}", root=f"ARK-{line}"),
    )
    crl = Request(
        service=Service.AMD_KDS,
        path=f"/{role}/v1/{line}/crl",
        read=partial(_crl, issuer=f"ARK-{line}"),
        limit=MAX_CRL,
    )
    return [chain, crl]


def endorsement(report: SnpReport, line: Product, endorsements: Iterable[bytes] = ()) -> list[Request]:
    """The request for the VCEK; none if `endorsements` hold the certificate already.

    CollateralUnavailable if AMD does not give it to the public.
    """
    if any(_fits(key, report) for key in endorsement_keys(endorsements)):
        return []
    if report.signer_info.signing_key is not SigningKey.VCEK:
        raise CollateralUnavailable(
            "AMD gives a VLEK to its cloud provider only; "
            "give the certificate that the provider hands out with the report"
        )
    if not any(report.chip_id):
        raise CollateralUnavailable(
            "the report hides its CHIP_ID, so its VCEK cannot be asked for; "
            "give the certificate that the host hands out with it"
        )
    chip = report.chip_id[:8] if line is Product.TURIN else report.chip_id
    request = Request(
        service=Service.AMD_KDS,
        path=f"/vcek/v1/{line}/{chip.hex()}",
        query=tuple((f"{name}SPL", f"{level:02d}") for name, level in report.reported_tcb.to_json().items()),
        read=partial(_vcek, report=report),
    )
    return [request]


def endorsement_keys(endorsements: Iterable[bytes]) -> list[EndorsementKey]:
    """The VCEKs and VLEKs in `endorsements` (DER, PEM, certificate tables); MalformedEvidence for others."""
    return [EndorsementKey.of(item) for item in _certificates(endorsements) if is_endorsement(item)]


def _turin(report: SnpReport) -> Product | None:
    return Product.TURIN if report.reported_tcb.fmc is not None else None


def _fits(key: EndorsementKey, report: SnpReport) -> bool:
    kind = key.kind is report.signer_info.signing_key
    return kind and key.tcb == report.reported_tcb and key.chip_id in (None, report.chip_id)


def _certificates(endorsements: Iterable[bytes]) -> Iterator[Certificate]:
    for item in endorsements:
        if item[:1] == b"\x30" or item.lstrip().startswith(b"-----BEGIN"):
            yield from certificates.load_all(item)
        else:
            for guid, content in read_table(item):
                yield from certificates.load_all(content) if guid in CERTIFICATES else ()


def _vcek(reply: Reply, report: SnpReport) -> Items:
    found = certificates.load(reply.body)
    if not is_endorsement(found) or not _fits(EndorsementKey.of(found), report):
        raise MalformedEvidence("the certificate is not the VCEK of this chip at this TCB")
    return (Item(Kind.AMD_CERTIFICATE, found.raw),)


def _chain(reply: Reply, authority: str, root: str) -> Items:
    found = certificates.load_all(reply.body)
    names = [item.name for item in found]
    if names != [authority, root]:
        raise MalformedEvidence(f"the chain is not {authority} and {root}")
    return tuple(Item(Kind.AMD_CERTIFICATE, item.raw) for item in found)


def _crl(reply: Reply, issuer: str) -> Items:
    raw = reply.body
    if raw[:1] != b"\x30":
        blocks = certificates.pem_blocks(raw, b"X509 CRL")
        raw = blocks[0]
    if certificates.common_name(load_crl(raw).issuer) != issuer:
        raise MalformedEvidence(f"the CRL is not {issuer}'s")
    return (Item(Kind.AMD_CRL, raw),)
