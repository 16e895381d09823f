"""Each sealed request is answered once. Memory of what was opened, bounded by creation time.

What a request says of its own time decides which bucket remembers it. Dropping a bucket raises a
floor that never falls: whatever the host does to the clock, nothing older is taken again.
"""

import hashlib
from enum import Enum, auto

from sealing.envelope import MAX_SKEW

BUCKET = 30


class Admission(Enum):
    """What becomes of a request that opened."""

    ADMITTED = auto()
    STALE = auto()
    REPLAYED = auto()
    FULL = auto()


class ReplayCache:
    """Remembers `enc` and request id of every admitted request for as long as it could be replayed."""

    def __init__(self, capacity: int = 200_000) -> None:
        self._capacity = capacity
        self._buckets: dict[int, set[bytes]] = {}
        self._floor = 0

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def admit(self, enc: bytes, request_id: bytes, created: int, now: float) -> Admission:
        """Admit a request made at `created`, both times in Unix seconds, or say why not.

        A request is refused if its `enc` or its request id was seen, if it is older than the floor,
        or if its time is more than 120 s from `now`.
        """
        self._drop(now)
        if abs(created - now) > MAX_SKEW or created < self._floor:
            return Admission.STALE
        # An id may return in another bucket: a retry is made anew, a few seconds later.
        if any(_short(enc) in seen or request_id in seen for seen in self._buckets.values()):
            return Admission.REPLAYED
        if len(self) + 2 > self._capacity:
            return Admission.FULL
        self._buckets.setdefault(created // BUCKET, set()).update((_short(enc), request_id))
        return Admission.ADMITTED

    def _drop(self, now: float) -> None:
        for index in [i for i in self._buckets if (i + 1) * BUCKET <= now - MAX_SKEW]:
            del self._buckets[index]
            self._floor = max(self._floor, (index + 1) * BUCKET)


def _short(enc: bytes) -> bytes:
    return hashlib.sha256(enc).digest()
