"""From evidence to the collateral that judges it: plan, look in the store, ask the services, keep."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain as joined

from ..collateral import Collateral, Kind
from ..collateral_store import Freshness, Item, Store, describe, gathered
from ..errors import CollateralUnavailable, MalformedEvidence
from ..snp import Product
from .evidence import Evidence
from .plan import plan, signers
from .request import Items, Request, unavailable
from .services import Services
from .transport import Patience, Transport

DATED = frozenset(
    {
        Kind.AMD_CRL,
        Kind.INTEL_TCB_INFO,
        Kind.INTEL_QE_IDENTITY,
        Kind.INTEL_PCK_CRL,
        Kind.INTEL_ROOT_CRL,
        Kind.NVIDIA_OCSP,
    }
)
"""What services issue anew before it ends: an answer of these kinds that is not current is no answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request got, and whether the store had it."""

    request: Request
    items: Items = field(repr=False)
    cached: bool


@dataclass(frozen=True, slots=True)
class Fetched:
    """All answers and all failures: one failure does not keep the other requests from being made."""

    answers: tuple[Answer, ...]
    failures: tuple[CollateralUnavailable, ...]

    @property
    def collateral(self) -> Collateral:
        """The items of all answers, each once."""
        return gathered(joined.from_iterable(answer.items for answer in self.answers))

    def require(self) -> Collateral:
        """The collateral; CollateralUnavailable, which names all failures, if anything is missing."""
        if self.failures:
            raise CollateralUnavailable("\n".join(str(each) for each in self.failures))
        return self.collateral


async def fetch(
    evidence: Evidence,
    *,
    now: datetime,
    services: Services | None = None,
    store: Store | None = None,
    refresh: bool = False,
    product: Product | None = None,
    patience: Patience | None = None,
) -> Fetched:
    """The collateral that verifying `evidence` calls for.

    What `store` holds and is fresh at `now` is not asked for again, unless `refresh`; answers are
    kept in it. Nothing is verified: answers are read for form, and `verify` judges them.
    """
    services = services or Services()
    planned = plan(evidence, pccs=services.pccs, product=product)
    async with Transport(services, patience) as transport:
        desk = _Desk(transport, store, now, refresh)
        first = await desk.ask_all(planned.requests)
        manifests = [item for each in first if isinstance(each, Answer) for item in each.items]
        more = signers(manifests, planned)
        second = await desk.ask_all(more.requests)
    made = [*first, *second]
    failures = [each for each in made if isinstance(each, CollateralUnavailable)]
    return Fetched(
        answers=tuple(each for each in made if isinstance(each, Answer)),
        failures=(*planned.gaps, *more.gaps, *failures),
    )


def recall(
    evidence: Evidence, store: Store, *, now: datetime, product: Product | None = None
) -> tuple[Collateral, tuple[str, ...]]:
    """What `store` holds, fresh at `now`, of what `fetch` got for `evidence`, and what is missing."""
    planned = plan(evidence, product=product)
    held = {request.asked: store.answer(request.asked, now) for request in planned.requests}
    more = signers(joined.from_iterable(held.values()), planned)
    held |= {request.asked: store.answer(request.asked, now) for request in more.requests}
    missing = [str(gap) for gap in (*planned.gaps, *more.gaps)]
    missing += [asked for asked, items in held.items() if not items]
    return gathered(joined.from_iterable(held.values())), tuple(missing)


@dataclass(frozen=True, slots=True)
class _Desk:
    """Where requests are answered: from the store, else by the services."""

    transport: Transport
    store: Store | None
    now: datetime
    refresh: bool

    async def ask_all(self, requests: Iterable[Request]) -> list[Answer | CollateralUnavailable]:
        """An answer or a failure for each request, in order."""
        return await asyncio.gather(*(self._ask(request) for request in requests))

    async def _ask(self, request: Request) -> Answer | CollateralUnavailable:
        held = self.store.answer(request.asked, self.now) if self.store and not self.refresh else ()
        if held:
            return Answer(request, held, cached=True)
        try:
            reply = await self.transport.send(request)
            items = request.read(reply)
            self._check_current(request, items)
        except CollateralUnavailable as failure:
            return failure
        except MalformedEvidence as error:
            cause = f"the answer is not what was asked for: {error}"
            return unavailable(self.transport.where(request), cause, "check the address of the service")
        if self.store:
            self.store.record(request.asked, items, self.now)
        return Answer(request, items, cached=False)

    def _check_current(self, request: Request, items: Iterable[Item]) -> None:
        for item in items:
            facts = describe(item.kind, item.raw)
            state = facts.freshness(self.now)
            if item.kind in DATED and state is not Freshness.FRESH:
                span = f"{facts.not_before} to {facts.not_after}"
                cause = f"the answer is stale or not yet valid: it runs from {span}"
                raise unavailable(
                    self.transport.where(request),
                    cause,
                    "check the clock; if it is right, ask another mirror",
                )
