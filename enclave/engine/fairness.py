"""Whose turn it is: tokens by share between priorities, requests in turn between tenants. No torch."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from .interface import Priority, Request


class Queued(Protocol):
    """What a `FairQueue` holds."""

    @property
    def request(self) -> Request: ...


_T = TypeVar("_T", bound=Queued)


class Turns:
    """Tokens served to each priority over its weight: the least served is first.

    Premium's weight is its reserved share of the tokens; those of standard and basic who are there divide the
    rest, three to one. What nobody of them uses premium gets. Every weight is above zero, so nobody starves.
    """

    def __init__(self, premium_share: int) -> None:
        self._premium_share = premium_share
        self._weights = dict.fromkeys(Priority, 1.0)
        self._served = dict.fromkeys(Priority, 0.0)
        self._present: set[Priority] = set()

    def attend(self, present: set[Priority]) -> None:
        """Who has anything to do. One that comes back starts level with those who are there: no credit."""
        for priority in present - self._present:
            others = [self._served[other] for other in present & self._present]
            self._served[priority] = max([self._served[priority], *([min(others)] if others else [])])
        if present != self._present:
            self._present = present
            self._weights = self._weigh()

    def _weigh(self) -> dict[Priority, float]:
        others = {Priority.STANDARD: 3.0, Priority.BASIC: 1.0}
        whole = sum(part for priority, part in others.items() if priority in self._present) or 4.0
        rest = 100.0 - self._premium_share
        return {
            Priority.PREMIUM: float(self._premium_share),
            **{priority: rest * part / whole for priority, part in others.items()},
        }

    def first(
        self, candidates: Iterable[Priority], ahead: Mapping[Priority, int] = MappingProxyType({})
    ) -> Priority:
        """The candidate that is served next; `ahead` are tokens that are as good as served to it."""
        return min(candidates, key=lambda p: self._served[p] + ahead.get(p, 0) / self._weights[p])

    def charge(self, priority: Priority, tokens: int) -> None:
        """Count tokens that were served."""
        self._served[priority] += tokens / self._weights[priority]


class FairQueue(Generic[_T]):
    """Those who wait, by priority; within one, tenants take turns and each tenant's own come in order."""

    def __init__(self) -> None:
        self._tenants: dict[Priority, OrderedDict[str, deque[_T]]] = {p: OrderedDict() for p in Priority}
        self._counts = dict.fromkeys(Priority, 0)

    def __len__(self) -> int:
        return sum(self._counts.values())

    def __iter__(self) -> Iterator[_T]:
        for tenants in self._tenants.values():
            for line in tenants.values():
                yield from line

    def count(self, priority: Priority) -> int:
        """How many of a priority wait."""
        return self._counts[priority]

    def push(self, item: _T, *, front: bool = False) -> None:
        """Queue an item behind its tenant's others, or before everybody of its priority."""
        tenants, tenant = self._tenants[item.request.priority], item.request.tenant
        line = tenants.setdefault(tenant, deque())
        if front:
            line.appendleft(item)
            tenants.move_to_end(tenant, last=False)
        else:
            line.append(item)
        self._counts[item.request.priority] += 1

    def peek(self, priority: Priority) -> _T | None:
        """Who is next of a priority."""
        for line in self._tenants[priority].values():
            return line[0]
        return None

    def pop(self, priority: Priority) -> _T:
        """Take the next of a priority; the next tenant has its turn then."""
        tenants = self._tenants[priority]
        tenant, line = next(iter(tenants.items()))
        item = line.popleft()
        if line:
            tenants.move_to_end(tenant)
        else:
            del tenants[tenant]
        self._counts[priority] -= 1
        return item

    def remove(self, item: _T) -> None:
        """Take out an item that waits."""
        tenants, tenant = self._tenants[item.request.priority], item.request.tenant
        tenants[tenant].remove(item)
        if not tenants[tenant]:
            del tenants[tenant]
        self._counts[item.request.priority] -= 1
