"""Evidence that a worker gathers about itself, hour by hour, for those who are shown a receipt later.

Its nonce is no verifier's choice but the hour's (sealing/receipts.py), so that an auditor knows it. It is
gathered before the first receipt of its hour, keyset and workload is signed: no receipt goes out that
nobody could check. Kept in memory, the newest of each kind, at most `limit` of them.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from attestation import Bundle
from attestation.binding import sha256
from sealing.receipts import period_nonce, period_of

LIMIT = 512

Gather = Callable[[bytes, bytes, bytes], Bundle]
"""(nonce, keyset, workload) -> bundle; blocks. Raises EvidenceUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The hour that began at `period` (Unix seconds), under keyset K and workload W."""

    period: int
    keyset: bytes
    workload: bytes


class EvidenceJournal:
    """Safe to use from several threads; one gathers at a time."""

    def __init__(self, gather: Gather, *, limit: int = LIMIT) -> None:
        self._gather = gather
        self._limit = limit
        self._kept: OrderedDict[Entry, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def ensure(self, time: int, keyset: bytes, workload: bytes) -> None:
        """Have evidence for the hour of `time`; gathers it if there is none. Raises EvidenceUnavailable."""
        entry = Entry(period=period_of(time), keyset=sha256(keyset), workload=sha256(workload))
        if entry in self._kept:
            return
        with self._lock:
            if entry not in self._kept:
                bundle = self._gather(period_nonce(entry.period), keyset, workload)
                self._kept[entry] = bundle.to_json()
                while len(self._kept) > self._limit:
                    self._kept.popitem(last=False)

    def find(self, period: int, keyset: bytes | None, workload: bytes | None) -> bytes | None:
        """The newest kept bundle of that hour, as JSON; of that K and W where they are given."""
        with self._lock:
            for entry in reversed(self._kept):
                if (
                    entry.period == period
                    and keyset in (None, entry.keyset)
                    and workload in (None, entry.workload)
                ):
                    return self._kept[entry]
        return None
