"""From an address to a worker that proved itself. Only `Attested` can seal anything."""

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import urlsplit

from attestation import (
    Bundle,
    Collateral,
    Keyset,
    MalformedEvidence,
    OhttpKey,
    Policy,
    Rejected,
    Session,
    Verdict,
    verify,
)
from attestation.binding import NONCE_SIZE, sha256
from attestation.encoding import b64url_encode
from attestation.evidence import MAX_BUNDLE
from attestation.loopback import is_loopback
from sealing import bhttp, ohttp, padding
from sealing.envelope import REQUEST_ID_SIZE, Envelope
from sealing.errors import SealingError
from sealing.hpke import MLKEM768_X25519_AES256, X25519_AES128, Suite

from .errors import InsecureAddress, NoUsableKey, WorkerBusy, WorkerRefused
from .wire import Wire, WireResponse, read_all

SESSION_MARGIN = 5
MAX_SESSIONS = 64
CHUNK = 256 * 1024
MAX_PROBLEM = 64 * 1024


@dataclass(frozen=True, slots=True)
class Sealed:
    """A request ready to cross the wire, and the request's secrets, which open its answer."""

    body: bytes
    request: ohttp.ChunkedRequestSealer = field(repr=False)


@dataclass(slots=True)
class Key:
    """A key for one request: the attested one, or a one-time key that may be encapsulated to already."""

    config: ohttp.KeyConfig
    suite: Suite
    not_after: float
    _begun: tuple[int, ohttp.ChunkedRequestSealer] | None = field(default=None, repr=False)

    def begin(self) -> None:
        """Encapsulate now, so that the request does not wait for it. For a one-time key alone."""
        self._begun = self._begun or (os.getpid(), ohttp.ChunkedRequestSealer(self.config, self.suite))

    def sealer(self) -> ohttp.ChunkedRequestSealer:
        """What seals one request; each call gives another, in a forked process too.

        A sealer shared by two processes would seal two messages under one key and nonce.
        """
        begun, self._begun = self._begun, None
        if begun and begun[0] == os.getpid():
            return begun[1]
        return ohttp.ChunkedRequestSealer(self.config, self.suite)


@dataclass(slots=True)
class Attested:
    """A worker whose evidence was accepted: the verdict, the keys it bound, what it has loaded.

    Made by `Unattested.attest` alone. `fresh_until` is when to attest again.
    """

    verdict: Verdict
    bundle: Bundle
    _config: ohttp.KeyConfig = field(repr=False)
    _suite: Suite
    _sessions: list[Key] = field(default_factory=list, repr=False)
    _one_time_only: bool = False

    @property
    def workload_digest(self) -> bytes:
        """W, which every request names."""
        return sha256(self.bundle.workload)

    @property
    def keyset_digest(self) -> bytes:
        """K, by which a worker's keys are named."""
        return sha256(self.bundle.keyset)

    def holds(self, now: float) -> bool:
        """Whether the verdict may still be acted on at `now` (Unix seconds), and a key be sealed to."""
        end = self.verdict.expires_at
        usable = not self._one_time_only or any(map(partial(_is_fresh, now=now), self._sessions))
        return end is not None and now < end.timestamp() and usable

    def take_key(self, now: float) -> Key:
        """The key for one request: a one-time key if one is at hand, else the attested key.

        NoUsableKey if there is none and the policy says `require_session`.
        """
        while self._sessions:
            session = self._sessions.pop()
            if _is_fresh(session, now=now):
                return session
        if self._one_time_only:
            raise NoUsableKey("no one-time key is at hand, and the policy seals to no other; attest again")
        return Key(self._config, self._suite, 0)

    def prepare(self, now: float) -> None:
        """Encapsulate to the one-time keys at hand, and let go of those that have run out."""
        self._sessions = [session for session in self._sessions if _is_fresh(session, now=now)]
        for session in self._sessions:
            with suppress(SealingError):  # a key that is no good: the request that takes it says so
                session.begin()

    def seal(self, request: bhttp.Request, request_id: bytes, now: float, key: Key | None = None) -> Sealed:
        """`request` sealed to `key`, or to the one that `take_key` gives.

        The request is padded to a bucket; its creation time, W and id travel inside.
        """
        sealer = (key or self.take_key(now)).sealer()
        envelope = Envelope(created=int(now), workload=self.workload_digest, request_id=request_id)
        fields = (*request.headers, *envelope.to_fields())
        inside = bhttp.Request(
            request.method, request.scheme, request.authority, request.path, fields, request.body
        )
        plaintext = padding.pad(bhttp.encode_request(inside))
        parts = [sealer.header]
        for start in range(0, len(plaintext), CHUNK):
            final = start + CHUNK >= len(plaintext)
            parts.append(sealer.seal(plaintext[start : start + CHUNK], final=final))
        return Sealed(b"".join(parts), sealer)

    def keep_session(self, raw: bytes) -> None:
        """Remember the next one-time key, which came sealed. MalformedEvidence if it is none."""
        session = Session.from_bytes(raw)
        if session.key.kem == self._suite.kem:
            self._sessions.append(_one_time(session, self._suite))
            del self._sessions[:-MAX_SESSIONS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unattested:
    """An address and the policy that its worker must meet. Nothing secret can be sent from here.

    `clock` gives Unix seconds. Raises InsecureAddress when the policy trusts the simulator and the
    address is not loopback, unless the policy says `allow_remote_simulation = true`.
    """

    url: str
    policy: Policy
    wire: Wire
    collateral: Collateral = field(default_factory=Collateral)
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        simulated = self.policy.roots.simulated and not self.policy.allow_remote_simulation
        if simulated and not is_loopback(urlsplit(self.url).hostname or ""):
            raise InsecureAddress(
                f"{self.url} is not loopback and the policy trusts only the simulator, which protects "
                "nothing; use real roots, or write allow_remote_simulation = true to say you mean it"
            )

    async def examine(self, *, session: bool = True) -> tuple[Bundle, Verdict]:
        """Fetch fresh evidence for a nonce of our own and judge it, whatever the outcome.

        Raises Unreachable, WorkerBusy, WorkerRefused, MalformedEvidence.
        """
        nonce = os.urandom(NONCE_SIZE)
        started = _elapsed()
        bundle = Bundle.from_json(await self._fetch(nonce, session))
        age = timedelta(seconds=_elapsed() - started)
        now = datetime.fromtimestamp(self.clock(), UTC)
        return bundle, verify(bundle, self.collateral, self.policy, nonce=nonce, now=now, nonce_age=age)

    async def attest(self) -> Attested:
        """A worker that may be trusted with secrets under the policy; Rejected otherwise.

        Raises also what `examine` raises, and NoUsableKey.
        """
        bundle, verdict = await self.examine()
        if not verdict.accepted:
            raise Rejected(verdict)
        key, suite = _choose(Keyset.from_bytes(bundle.keyset), self.policy)
        sessions = [Session.from_bytes(bundle.session)] if bundle.session is not None else []
        fitting = [_one_time(session, suite) for session in sessions if session.key.kem == suite.kem]
        return Attested(verdict, bundle, _config(key), suite, fitting, self.policy.require_session)

    async def _fetch(self, nonce: bytes, session: bool) -> bytes:
        body = json.dumps({"nonce": b64url_encode(nonce), "session": session}).encode()
        async with self.wire.send("POST", "/attestation", "application/json", body) as response:
            if response.status != 200:
                raise await refusal(response)
            return await read_all(response, MAX_BUNDLE)


def _is_fresh(key: Key, *, now: float) -> bool:
    return now < key.not_after - SESSION_MARGIN


def _one_time(session: Session, suite: Suite) -> Key:
    return Key(_config(session.key), suite, session.not_after)


def _elapsed() -> float:
    """Seconds that also pass while the machine sleeps, where the system can count them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


async def refusal(response: WireResponse) -> WorkerBusy | WorkerRefused:
    """The error for an answer of the gateway that is not the one asked for."""
    raw = await read_all(response, MAX_PROBLEM)
    if response.status == 503:
        after = response.headers.get("retry-after", "1")
        return WorkerBusy(int(after) if re.fullmatch("[0-9]{1,5}", after) else 1)
    return WorkerRefused(response.status, parse_problem(raw))


def parse_problem(raw: bytes) -> dict[str, object]:
    """A problem detail, or an empty one if `raw` is something else."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def new_request_id() -> bytes:
    """A random id that a request keeps through its retry."""
    return os.urandom(REQUEST_ID_SIZE)


def _choose(keyset: Keyset, policy: Policy) -> tuple[OhttpKey, Suite]:
    """The best key that the policy allows: the post-quantum hybrid, else X25519 if spelled out."""
    allowed = [MLKEM768_X25519_AES256] + ([X25519_AES128] if policy.allow_classical else [])
    for suite in allowed:
        for key in keyset.ohttp:
            if key.kem == suite.kem and (suite.kdf, suite.aead) in key.suites:
                return key, suite
    hint = "" if policy.allow_classical else "; it may offer X25519, which needs allow_classical = true"
    raise NoUsableKey(f"the worker offers no MLKEM768-X25519 key{hint}")


def _config(key: OhttpKey) -> ohttp.KeyConfig:
    try:
        return ohttp.KeyConfig(key.key_id, key.kem, key.public_key, key.suites)
    except SealingError as error:
        raise MalformedEvidence(f"oblivious-HTTP key {key.key_id}: {error}") from None
