"""The worker's keys: a keyset that changes every few hours, and one-time keys that open one message each.

Raw private keys lie in `SecretMemory` alone; a key is loaded from there for each message that it opens,
and what OpenSSL makes of it is gone with the message. Erasing a key zeroes its place.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation import Keyset, OhttpKey, Session
from attestation.binding import sha256
from attestation.keyset import MAX_LIFETIME
from sealing import cose
from sealing.hpke import MLKEM768_X25519_AES256, X25519_AES128, PrivateKey, Suite
from sealing.ohttp import GatewayKey, KeyConfig

from .memory import PROTECTED, Kind
from .slots import Prepared, Slots

LIFETIME: Final = MAX_LIFETIME
ROTATION: Final = 12 * 3600
GRACE: Final = 600
SESSION_LIFETIME: Final = 60
MAX_PENDING: Final = 192
MAX_PREPARED: Final = 32
SUITES: Final = (MLKEM768_X25519_AES256, X25519_AES128)
_GENERATIONS = 2
_RECENT = 32  # ids of erased one-time keys that are not given out again at once


class Busy(Exception):
    """As many one-time keys are pending as there may be; some expire within a minute."""


@dataclass(frozen=True, slots=True)
class Held:
    """A key's public side, where its private side lies, and the second from which it is of no use."""

    config: KeyConfig
    slot: int
    until: float


@dataclass(frozen=True, slots=True)
class Generation:
    """One keyset with its keys. `receipt` is the slot of the Ed25519 key."""

    keyset: Keyset
    raw: bytes
    keys: tuple[Held, ...]
    receipt: int

    @property
    def ids(self) -> set[int]:
        """The key ids in it."""
        return {held.config.key_id for held in self.keys}


class Identity:
    """The keys of one worker, fresh at every start. Safe to use from several threads.

    `clock` gives Unix seconds. `lifetime` (at most 24 h) is how long a keyset says it is valid,
    `rotation` when the next replaces it, `grace` how long its private keys then still open requests
    that are under way. All that is due happens at the next call of whatever method; `maintain` is there for a
    worker that nobody calls. After `erase` there are no keys and every use of one raises ValueError.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        lifetime: int = LIFETIME,
        rotation: int = ROTATION,
        grace: int = GRACE,
        max_pending: int = MAX_PENDING,
        kinds: tuple[Kind, ...] = PROTECTED,
    ) -> None:
        fits = 0 < rotation <= lifetime <= MAX_LIFETIME and grace >= 0
        if not fits or not 0 < max_pending <= MAX_PENDING:
            raise ValueError("rotation within lifetime, lifetime within 24 h, at most 192 pending keys")
        self._clock = clock
        self._lifetime, self._rotation, self._grace = lifetime, rotation, grace
        self._max_pending = max_pending
        self._slots = Slots(max_pending + MAX_PREPARED + _GENERATIONS * (len(SUITES) + 1), kinds)
        self._prepared = Prepared(self._slots, MLKEM768_X25519_AES256.kem, MAX_PREPARED)
        self._lock = threading.RLock()
        self._sessions: dict[int, Held] = {}
        self._recent: deque[int] = deque(maxlen=_RECENT)
        self._former: Generation | None = None
        self._former_ids: set[int] = set()
        self._erased = False
        self._current = self._generate()

    @property
    def memory(self) -> Kind:
        """The kind of memory that private keys lie in."""
        return self._slots.kind

    @property
    def keyset_bytes(self) -> bytes:
        """The current keyset: the exact bytes that K covers."""
        with self._tended():
            return self._current.raw

    @property
    def receipt_public_key(self) -> bytes:
        """The current Ed25519 key that signs receipts, 32 bytes."""
        with self._tended():
            return self._current.keyset.receipt_public_key

    def configs(self) -> tuple[KeyConfig, ...]:
        """The current keyset's oblivious-HTTP keys."""
        with self._tended():
            return tuple(held.config for held in self._current.keys)

    def lookup(self, key_id: int) -> GatewayKey | None:
        """The key of this id, loaded anew; None if there is none, or none any more."""
        with self._tended():
            held = self._sessions.get(key_id) or next(
                (held for held in self._lasting() if held.config.key_id == key_id), None
            )
            if held is None or self._clock() >= held.until:
                return None
            return GatewayKey(
                held.config, PrivateKey.from_bytes(held.config.kem_id, self._slots.read(held.slot))
            )

    def opened(self, key_id: int) -> None:
        """A message was opened with this key: a one-time key is erased, another stays."""
        with self._tended():
            self._forget(key_id)

    def new_session(self) -> bytes:
        """A one-time key that nobody was given, as canonical JSON; good for one message within 60 s.

        Raises Busy.
        """
        with self._tended() as now:
            if len(self._sessions) >= self._max_pending:
                raise Busy("too many one-time keys are pending")
            until = int(now) + SESSION_LIFETIME
            slot, public = self._prepared.take() or self._slots.key(MLKEM768_X25519_AES256.kem)
            held = _held(MLKEM768_X25519_AES256, until, self._taken(), slot, public)
            self._sessions[held.config.key_id] = held
            return Session(key=_public(held.config), not_after=until).to_bytes()

    def prepare(self) -> bool:
        """Make one one-time key ahead of its use; False if 32 wait. For when there is nothing else to do.

        Its minute begins when `new_session` gives it out. What was not given out goes with its keyset.
        """
        with self._tended():
            return self._prepared.add()

    def next_session(self, *, spare: int = 0) -> bytes | None:
        """As `new_session`, but None where that raises Busy, or where fewer than `spare` would be left."""
        with self._tended():
            if len(self._sessions) >= self._max_pending - spare:
                return None
        try:
            return self.new_session()
        except Busy:
            return None

    def keyset_of(self, digest: bytes) -> bytes | None:
        """The keyset with this K, current or former, while its receipt key is held."""
        with self._tended():
            held = self._held(digest)
            return held.raw if held else None

    def sign_receipt(self, payload: bytes, content_type: str, keyset: bytes) -> bytes:
        """A COSE_Sign1 by the receipt key of the keyset with this K. Raises LookupError if it is gone."""
        with self._tended():
            held = self._held(keyset)
            if held is None:
                raise LookupError("the keyset that shall sign is not held any more")
            key = Ed25519PrivateKey.from_private_bytes(self._slots.read(held.receipt))
            return cose.sign(payload, content_type, key)

    def rotate(self) -> None:
        """Replace the keyset now. The former one's keys open requests for the time of grace."""
        with self._tended():
            self._rotate()

    def renew(self) -> None:
        """Erase every key, one-time keys and the former keyset's among them, and begin a new keyset."""
        with self._tended():
            ids = self._current.ids | self._former_ids
            for key_id in list(self._sessions):
                self._forget(key_id)
            self._drop_former()
            self._prepared.drop()
            for slot in (*(held.slot for held in self._current.keys), self._current.receipt):
                self._slots.erase(slot)
            former, self._current = self._current, self._generate(ids)
            self._former_ids = former.ids

    def maintain(self) -> None:
        """Do what is due: rotate, erase what has run out."""
        with self._tended():
            pass

    def erase(self) -> None:
        """Zero every private key, for good."""
        with self._lock:
            self._erased = True
            self._sessions.clear()
            self._former = None
            self._slots.close()

    @contextmanager
    def _tended(self) -> Iterator[float]:
        """Hold the lock, with everything done that is due."""
        with self._lock:
            yield self._tend()

    def _tend(self) -> float:
        """Erase what has run out, rotate if that is due, and say what time it is."""
        if self._erased:
            raise ValueError("the identity was erased")
        now = self._clock()
        for key_id in [key_id for key_id, held in self._sessions.items() if now >= held.until]:
            self._forget(key_id)
        former = self._former
        if former is not None and now >= max(held.until for held in former.keys):
            self._drop_former()
        if now >= self._current.keyset.not_before + self._rotation:
            self._rotate()
        return now

    def _rotate(self) -> None:
        self._drop_former()
        self._prepared.drop()
        last = self._current
        until = min(self._clock() + self._grace, last.keyset.not_after)
        keys = tuple(Held(held.config, held.slot, until) for held in last.keys)
        self._former = Generation(last.keyset, last.raw, keys, last.receipt)
        self._current = self._generate(last.ids | self._former_ids)
        self._former_ids = last.ids

    def _generate(self, before: Iterable[int] = ()) -> Generation:
        """A new generation whose ids are neither in use nor among `before`."""
        now = int(self._clock())
        taken = {*self._sessions, *self._recent, *before}
        keys: list[Held] = []
        for suite in SUITES:
            held = _held(suite, now + self._lifetime, taken, *self._slots.key(suite.kem))
            taken = taken | {held.config.key_id}
            keys.append(held)
        receipt = self._slots.generate()
        public = Ed25519PrivateKey.from_private_bytes(self._slots.read(receipt)).public_key()
        keyset = Keyset(
            ohttp=tuple(_public(held.config) for held in keys),
            receipt_public_key=public.public_bytes_raw(),
            not_before=now,
            not_after=now + self._lifetime,
        )
        return Generation(keyset, keyset.to_bytes(), tuple(keys), receipt)

    def _taken(self) -> set[int]:
        """Ids that a new key may not have: those in use, of the last two keysets, and lately erased ones."""
        return {*self._sessions, *self._recent, *self._former_ids, *self._current.ids}

    def _held(self, digest: bytes) -> Generation | None:
        generations = [self._current, *([self._former] if self._former else [])]
        return next((each for each in generations if sha256(each.raw) == digest), None)

    def _lasting(self) -> Iterator[Held]:
        yield from self._current.keys
        yield from self._former.keys if self._former else ()

    def _forget(self, key_id: int) -> None:
        held = self._sessions.pop(key_id, None)
        if held is not None:
            self._slots.erase(held.slot)
            self._recent.append(key_id)

    def _drop_former(self) -> None:
        if self._former is not None:
            for slot in (*(held.slot for held in self._former.keys), self._former.receipt):
                self._slots.erase(slot)
            self._former = None


def _held(suite: Suite, until: float, taken: set[int], slot: int, public: bytes) -> Held:
    """A key under a random id that is not taken."""
    while (key_id := os.urandom(1)[0]) in taken:
        pass
    return Held(KeyConfig(key_id, suite.kem, public, ((suite.kdf, suite.aead),)), slot, until)


def _public(config: KeyConfig) -> OhttpKey:
    return OhttpKey(
        key_id=config.key_id, kem=config.kem_id, public_key=config.public_key, suites=config.suites
    )
