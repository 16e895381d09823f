"""What to ask for, given evidence: pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from ..collateral import Kind
from ..collateral_store import Item
from ..errors import CollateralUnavailable
from ..snp import Product, SnpReport
from . import amd, intel, nvidia
from .evidence import Evidence
from .request import Request

Step = Callable[[], list[Request]]


@dataclass(frozen=True, slots=True)
class Plan:
    """The requests that evidence calls for, each once, and why some things cannot be asked for."""

    requests: tuple[Request, ...]
    gaps: tuple[CollateralUnavailable, ...] = ()


def plan(evidence: Evidence, *, pccs: bool = False, product: Product | None = None) -> Plan:
    """What to ask for `evidence`; `product` is the line of SNP reports that do not say theirs.

    What the signers of manifests call for is known once those are there: `signers`.
    """
    steps: list[Step] = []
    for report in evidence.snp:
        steps += _snp(report, evidence.endorsements, product)
    steps += [partial(intel.requests, quote, pccs=pccs) for quote in evidence.quotes]
    for device, chain in evidence.devices:
        steps += [partial(nvidia.requests, device, chain)] if device else []
        steps += [partial(nvidia.device_status, chain)] if chain else []
    return _made(steps)


def signers(items: Iterable[Item], known: Plan) -> Plan:
    """Status requests for the signers of the manifests in `items`, less those in `known`."""
    made = _made(partial(nvidia.signer_status, item) for item in items if item.kind is Kind.NVIDIA_RIM)
    asked = {request.asked for request in known.requests}
    return Plan(tuple(request for request in made.requests if request.asked not in asked), made.gaps)


def _snp(report: SnpReport, endorsements: list[bytes], product: Product | None) -> list[Step]:
    def line() -> Product:
        return amd.product_line(report, endorsements, product)

    return [
        lambda: amd.authorities(report, line()),
        lambda: amd.endorsement(report, line(), endorsements),
    ]


def _made(steps: Iterable[Step]) -> Plan:
    found: dict[str, Request] = {}
    gaps: dict[str, CollateralUnavailable] = {}
    for step in steps:
        try:
            for request in step():
                found.setdefault(request.asked, request)
        except CollateralUnavailable as gap:
            gaps.setdefault(str(gap), gap)
    return Plan(tuple(found.values()), tuple(gaps.values()))
