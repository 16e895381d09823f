"""The worker's keys: what opens, for how long, and that erased means erased."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attestation import Keyset, Session
from attestation.binding import sha256
from enclave.identity import (
    GRACE,
    LIFETIME,
    MAX_PENDING,
    MAX_PREPARED,
    ROTATION,
    SESSION_LIFETIME,
    Busy,
    Identity,
)
from enclave.memory import Kind
from enclave.worker import Worker
from sealing import cose
from sealing.hpke import KEM_MLKEM768_X25519, KEM_X25519
from sealing.ohttp import KeyConfig, open_request, seal_request

START = 1_800_000_000.0
KINDS = tuple(Kind)


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def identity(clock: Clock) -> Identity:
    return Identity(clock=clock, kinds=KINDS)


def current(identity: Identity) -> Keyset:
    return Keyset.from_bytes(identity.keyset_bytes)


def ids(identity: Identity) -> set[int]:
    return {key.key_id for key in current(identity).ohttp}


def config_of(session: bytes) -> KeyConfig:
    key = Session.from_bytes(session).key
    return KeyConfig(key.key_id, key.kem, key.public_key, key.suites)


def opens(identity: Identity, config: KeyConfig) -> bool:
    """Whether a request sealed to `config` is opened by what `lookup` gives."""
    sealed = seal_request(config, b"hello")[0]
    return open_request(identity.lookup, sealed).plaintext == b"hello"


def test_the_keyset_is_canonical_and_of_now(identity: Identity) -> None:
    keyset = current(identity)
    assert keyset.to_bytes() == identity.keyset_bytes
    assert [key.kem for key in keyset.ohttp] == [KEM_MLKEM768_X25519, KEM_X25519]
    assert (keyset.not_before, keyset.not_after) == (START, START + LIFETIME)
    assert keyset.receipt_public_key == identity.receipt_public_key


def test_each_key_opens_what_is_sealed_to_it(identity: Identity) -> None:
    assert {config.key_id for config in identity.configs()} == ids(identity)
    for config in identity.configs():
        assert opens(identity, config)


def test_an_unknown_key_is_none(identity: Identity) -> None:
    unknown = next(key_id for key_id in range(256) if key_id not in ids(identity))
    assert identity.lookup(unknown) is None


def test_every_start_has_fresh_keys(clock: Clock) -> None:
    keysets = [current(Identity(clock=clock, kinds=KINDS)) for _ in range(2)]
    public = {key.public_key for keyset in keysets for key in keyset.ohttp}
    assert len(public) == 4 and keysets[0].receipt_public_key != keysets[1].receipt_public_key


def test_rotation_comes_when_it_is_due(identity: Identity, clock: Clock) -> None:
    before = identity.keyset_bytes
    clock.now += ROTATION - 1
    identity.maintain()
    assert identity.keyset_bytes == before
    clock.now += 1
    identity.maintain()
    assert identity.keyset_bytes != before
    assert current(identity).not_before == clock.now


def test_old_keys_open_what_is_under_way_and_then_no_more(identity: Identity, clock: Clock) -> None:
    old = identity.configs()
    identity.rotate()
    assert all(opens(identity, config) for config in (*old, *identity.configs()))
    clock.now += GRACE - 1
    assert all(opens(identity, config) for config in old)
    clock.now += 1
    assert [identity.lookup(config.key_id) for config in old] == [None, None]
    assert all(opens(identity, config) for config in identity.configs())


def test_no_key_outlives_its_keyset(clock: Clock) -> None:
    identity = Identity(clock=clock, lifetime=1000, rotation=990, grace=500, kinds=KINDS)
    old = identity.configs()
    clock.now += 995
    identity.maintain()
    assert opens(identity, old[0])
    clock.now += 5
    assert identity.lookup(old[0].key_id) is None


def test_ids_are_unused_in_the_last_two_keysets(identity: Identity) -> None:
    recent = [ids(identity)]
    for _ in range(40):
        identity.rotate()
        fresh = ids(identity)
        assert len(fresh) == 2 and not fresh & set().union(*recent[-2:])
        recent.append(fresh)


def test_a_session_opens_once(identity: Identity) -> None:
    config = config_of(identity.new_session())
    assert opens(identity, config)
    identity.opened(config.key_id)
    assert identity.lookup(config.key_id) is None


def test_opening_leaves_the_keyset_alone(identity: Identity) -> None:
    for config in identity.configs():
        identity.opened(config.key_id)
        assert opens(identity, config)


def test_a_session_is_gone_after_a_minute(identity: Identity, clock: Clock) -> None:
    raw = identity.new_session()
    session = Session.from_bytes(raw)
    assert session.not_after == START + SESSION_LIFETIME
    clock.now += SESSION_LIFETIME - 1
    assert opens(identity, config_of(raw))
    clock.now += 1
    assert identity.lookup(session.key.key_id) is None


def test_pending_sessions_are_capped_and_distinct(identity: Identity, clock: Clock) -> None:
    sessions = [config_of(identity.new_session()) for _ in range(MAX_PENDING)]
    taken = [config.key_id for config in sessions] + [config.key_id for config in identity.configs()]
    assert len(set(taken)) == len(taken)
    with pytest.raises(Busy):
        identity.new_session()
    assert identity.next_session() is None
    identity.opened(sessions[0].key_id)
    assert identity.next_session() is not None
    clock.now += SESSION_LIFETIME
    assert identity.next_session() is not None


def test_sessions_survive_rotation_and_keep_their_ids(identity: Identity) -> None:
    sessions = [config_of(identity.new_session()) for _ in range(150)]
    for _ in range(3):
        identity.rotate()
        assert not ids(identity) & {config.key_id for config in sessions}
    assert opens(identity, sessions[0])


def test_receipts_are_signed_by_the_key_of_the_keyset_that_is_named(identity: Identity, clock: Clock) -> None:
    first = identity.keyset_bytes
    identity.rotate()
    for keyset in (first, identity.keyset_bytes):
        assert identity.keyset_of(sha256(keyset)) == keyset
        message = cose.Sign1.from_bytes(identity.sign_receipt(b"{}", "text/x", sha256(keyset)), limit=1000)
        key = Ed25519PublicKey.from_public_bytes(Keyset.from_bytes(keyset).receipt_public_key)
        message.check(cose.Signer.of(key), "text/x")
    clock.now += GRACE
    assert identity.keyset_of(sha256(first)) is None
    with pytest.raises(LookupError):
        identity.sign_receipt(b"{}", "text/x", sha256(first))


def test_erased_is_erased(identity: Identity) -> None:
    config = identity.configs()[0]
    identity.erase()
    identity.erase()
    for use in (identity.maintain, identity.new_session, lambda: identity.lookup(config.key_id)):
        with pytest.raises(ValueError, match="erased"):
            use()


def test_erased_places_are_zero(identity: Identity, clock: Clock) -> None:
    slots = identity._slots
    raw = slots._memory.buffer[:]
    keyset_only = sum(1 for offset in range(0, len(raw), 32) if any(raw[offset : offset + 32]))
    assert keyset_only == 3
    config = config_of(identity.new_session())
    identity.opened(config.key_id)
    identity.rotate()
    clock.now += GRACE
    identity.maintain()
    assert sum(1 for offset in range(0, len(raw), 32) if any(raw[offset : offset + 32])) == 3
    identity.erase()
    assert not any(raw)


def test_private_keys_do_not_show(identity: Identity) -> None:
    key = identity.lookup(identity.configs()[0].key_id)
    assert key is not None
    raw = key.private_key.to_bytes()
    for shown in (repr(identity), repr(key), repr(identity._current)):
        assert raw.hex() not in shown and repr(raw)[2:-1] not in shown


@pytest.mark.parametrize(
    "settings",
    [
        {"lifetime": LIFETIME + 1},
        {"rotation": 0},
        {"lifetime": 100, "rotation": 101},
        {"grace": -1},
        {"max_pending": 0},
        {"max_pending": 256},
    ],
)
def test_settings_out_of_bounds_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="24 h"):
        Identity(clock=Clock(), kinds=KINDS, **settings)


def test_it_says_what_memory_it_got(clock: Clock) -> None:
    assert Identity(clock=clock, kinds=(Kind.UNLOCKED,)).memory is Kind.UNLOCKED


def test_some_one_time_keys_are_kept_for_answers() -> None:
    identity = Identity(max_pending=4)
    given = [identity.next_session(spare=2) for _ in range(4)]
    assert [session is not None for session in given] == [True, True, False, False]
    assert identity.next_session() is not None


def places(identity: Identity) -> int:
    """How many places of secret memory hold a key."""
    raw = identity._slots._memory.buffer
    return sum(1 for offset in range(0, len(raw), 32) if any(raw[offset : offset + 32]))


def test_keys_made_ahead_are_bounded_and_each_is_given_out_once(identity: Identity) -> None:
    assert [identity.prepare() for _ in range(MAX_PREPARED + 2)] == [True] * MAX_PREPARED + [False] * 2
    assert places(identity) == 3 + MAX_PREPARED
    given = [config_of(identity.new_session()) for _ in range(MAX_PREPARED + 3)]
    assert (
        len({config.public_key for config in given}) == len({config.key_id for config in given}) == len(given)
    )
    assert all(opens(identity, config) for config in given)
    identity.opened(given[0].key_id)
    assert identity.lookup(given[0].key_id) is None


def test_the_minute_of_a_key_made_ahead_begins_when_it_is_given_out(identity: Identity, clock: Clock) -> None:
    assert identity.prepare()
    clock.now += 3600
    raw = identity.new_session()
    assert Session.from_bytes(raw).not_after == clock.now + SESSION_LIFETIME
    clock.now += SESSION_LIFETIME
    assert identity.lookup(config_of(raw).key_id) is None
    assert places(identity) == 3


@pytest.mark.parametrize("end", [Identity.renew, Identity.rotate])
def test_keys_made_ahead_go_with_their_keyset(
    identity: Identity, clock: Clock, end: Callable[[Identity], None]
) -> None:
    made = [identity.prepare() for _ in range(4)]
    before = {bytes(identity._slots.read(slot)) for slot, _ in identity._prepared._keys}
    end(identity)
    clock.now += GRACE
    identity.maintain()
    assert all(made) and len(before) == 4 and places(identity) == 3
    raw = bytes(identity._slots._memory.buffer)
    assert not any(key in raw for key in before)


def test_keys_made_ahead_do_not_add_to_what_may_be_pending() -> None:
    identity = Identity(max_pending=3, kinds=KINDS)
    while identity.prepare():
        pass
    assert [identity.next_session() is not None for _ in range(4)] == [True, True, True, False]


async def test_a_worker_keeps_one_time_keys_ready(identity: Identity) -> None:
    task = asyncio.create_task(Worker.keep_keys_ready(cast(Worker, SimpleNamespace(_identity=identity))))
    try:
        for _ in range(1000):
            await asyncio.sleep(0.02)
            if places(identity) == 3 + MAX_PREPARED:
                break
        assert not identity.prepare()
    finally:
        task.cancel()
