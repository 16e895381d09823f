"""k of n: shares on independent brokers, joined in the worker; too few, wrong or doubled ones refused."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.release import Quorum, SharesDisagree, TooFewShares, release_from_quorum
from enclave.release.quorum import Given, join
from sealing.artifact import ReleasedSecret
from sealing.errors import LocalProtocolError, MalformedDocument
from sealing.shares import ReleasedShare, split
from tests.broker.machines import Machine
from tests.broker.world import EXPECTED, MODEL, SECRET, START, Direct, World, attester

OTHER = replace(SECRET, key=b"X" * 32)
COMMITMENT = hashlib.sha256(SECRET.key).digest()


def commits(key: bytes) -> bool:
    return hashlib.sha256(key).digest() == COMMITMENT


def given_by(shares: list[ReleasedShare]) -> list[Given]:
    from shamir_mnemonic import Share

    found = []
    for number, share in enumerate(shares):
        words = Share.from_mnemonic(share.mnemonic)
        found.append(Given(f"broker{number}", share, words.identifier, words.index))
    return found


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[World]]:
    made = [World(tmp_path_factory.mktemp("quorum") / f"{n}.db") for n in range(3)]
    yield made
    for world in made:
        world.store.close()


def spread(brokers: list[World], shares: list[ReleasedShare]) -> Quorum:
    for world, share in zip(brokers, shares, strict=True):
        world.store.put(MODEL, share.to_bytes(), by="test", now=START)
        world.limit(releases=None)
    directs = [Direct(world, f"https://broker{n}.example") for n, world in enumerate(brokers)]
    return Quorum(brokers=directs, threshold=shares[0].threshold)


def ask(quorum: Quorum, box: Machine) -> ReleasedSecret:
    return release_from_quorum(quorum, MODEL, attester(box), EXPECTED, commits, clock=lambda: START)


def test_two_of_three_make_the_key(brokers: list[World], box: Machine) -> None:
    quorum = spread(brokers, split(SECRET, threshold=2, count=3))
    assert ask(quorum, box) == SECRET
    assert all(world.released == 1 for world in brokers)


def test_one_broker_may_fail_and_two_may_not(brokers: list[World], box: Machine) -> None:
    quorum = spread(brokers, split(SECRET, threshold=2, count=3))
    brokers[0].limit(expires=int(START))
    assert ask(quorum, box) == SECRET
    brokers[1].limit(expires=int(START))
    with pytest.raises(TooFewShares, match=r"1 shares of the 2.*broker0.*broker1"):
        ask(quorum, box)


def test_shares_that_would_keep_the_worker_busy_are_lies(brokers: list[World], box: Machine) -> None:
    """The work to join shares doubles with each step of a number in them, which goes up to 15."""
    from shamir_mnemonic import generate_mnemonics

    (words,) = generate_mnemonics(1, [(2, 3)], SECRET.key, iteration_exponent=1)
    shares = split(SECRET, threshold=2, count=3)
    slow = [replace(share, mnemonic=one) for share, one in zip(shares, words, strict=True)]
    with pytest.raises(TooFewShares, match=r"0 shares of the 2.*asks for work"):
        ask(spread(brokers, slow), box)


def test_a_broker_that_lies_is_outvoted_and_named(
    brokers: list[World], box: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    shares = split(SECRET, threshold=2, count=3)
    shares[1] = split(OTHER, threshold=2, count=3)[1]
    with caplog.at_level(logging.WARNING):
        assert ask(spread(brokers, shares), box) == SECRET
    assert "broker1.example" in caplog.text and "broker0" not in caplog.text


def test_a_broker_with_another_manifests_share_counts_for_nothing(brokers: list[World], box: Machine) -> None:
    shares = split(SECRET, threshold=3, count=3)
    shares[2] = replace(shares[2], manifest=bytes(32))
    with pytest.raises(TooFewShares, match=r"broker2.*another manifest"):
        ask(spread(brokers, shares), box)


def test_a_whole_secret_is_no_share(brokers: list[World], box: Machine) -> None:
    quorum = spread(brokers, split(SECRET, threshold=3, count=3))
    brokers[0].store.put(MODEL, SECRET.to_bytes(), by="test", now=START)
    with pytest.raises(TooFewShares, match=r"broker0.*no share"):
        ask(quorum, box)


def test_shares_of_different_keys_are_told_apart_by_broker() -> None:
    shares = [split(SECRET, threshold=2, count=2)[0], split(OTHER, threshold=2, count=2)[1]]
    with pytest.raises(SharesDisagree, match=r"different keys, by broker: broker0; broker1"):
        join(given_by(shares), 2, commits)


def test_all_shares_of_another_key_are_refused_by_the_commitment() -> None:
    with pytest.raises(SharesDisagree, match="one of them lies"):
        join(given_by(split(OTHER, threshold=2, count=3)), 2, commits)


def test_the_same_share_twice_is_refused_and_both_are_named() -> None:
    share = split(SECRET, threshold=2, count=3)[0]
    with pytest.raises(SharesDisagree, match="broker0 and broker1 gave the same share"):
        join(given_by([share, share]), 2, commits)


def with_index_of(other: ReleasedShare, forged: ReleasedShare) -> ReleasedShare:
    """`forged` as a liar writes it who wants it to stand in the place of `other`."""
    from shamir_mnemonic import Share

    taken = Share.from_mnemonic(other.mnemonic)
    words = replace(Share.from_mnemonic(forged.mnemonic), identifier=taken.identifier, index=taken.index)
    return replace(forged, mnemonic=words.mnemonic())


@pytest.mark.parametrize("victim", [0, 2])
def test_a_share_forged_in_the_place_of_another_stops_nobody(
    victim: int, caplog: pytest.LogCaptureFixture
) -> None:
    shares = split(SECRET, threshold=2, count=3)
    shares[1] = with_index_of(shares[victim], split(OTHER, threshold=2, count=3)[1])
    with caplog.at_level(logging.WARNING):
        assert join(given_by(shares), 2, commits) == SECRET
    named = [broker for broker in ("broker0", "broker1", "broker2") if broker in caplog.text]
    assert named == ["broker1"]


def test_liars_among_sixteen_are_named_without_trying_every_choice(caplog: pytest.LogCaptureFixture) -> None:
    shares, others = (split(each, threshold=8, count=16) for each in (SECRET, OTHER))
    for liar in (9, 14):
        shares[liar] = others[liar]
    with caplog.at_level(logging.WARNING):
        assert join(given_by(shares), 8, commits) == SECRET
    assert [record.getMessage().split()[0] for record in caplog.records] == ["broker9", "broker14"]


def test_the_earliest_end_counts() -> None:
    shares = split(SECRET, threshold=2, count=2)
    shares[1] = replace(shares[1], not_after=SECRET.not_after - 9)
    assert join(given_by(shares), 2, commits).not_after == SECRET.not_after - 9


@settings(max_examples=12)
@given(st.integers(2, 5), st.integers(0, 3), st.randoms())
def test_any_k_of_n_make_the_key_and_fewer_do_not(threshold: int, spare: int, random: object) -> None:
    shares = given_by(split(SECRET, threshold=threshold, count=threshold + spare))
    random.shuffle(shares)  # type: ignore[attr-defined]
    assert join(shares[:threshold], threshold, commits).key == SECRET.key
    for unreached, undecided in ((0, False), (1, True)):
        with pytest.raises(TooFewShares) as few:
            join(shares[: threshold - 1], threshold, commits, unreached=unreached)
        assert few.value.undecided is undecided


@pytest.mark.parametrize(("threshold", "count"), [(1, 2), (3, 2), (2, 17), (0, 0)])
def test_splits_that_make_no_sense(threshold: int, count: int) -> None:
    with pytest.raises(LocalProtocolError):
        split(SECRET, threshold=threshold, count=count)


def test_quorums_that_make_no_sense(brokers: list[World]) -> None:
    one = Direct(brokers[0])
    for directs, threshold in (([one, one], 2), ([one], 2), ([one, Direct(brokers[1], "b")], 3)):
        with pytest.raises(ValueError, match="broker"):
            Quorum(brokers=directs, threshold=threshold)


def test_a_share_is_written_and_read_strictly_and_shows_nothing() -> None:
    share = split(SECRET, threshold=2, count=3)[1]
    assert ReleasedShare.from_bytes(share.to_bytes()) == share
    assert share.mnemonic not in repr(share)
    for raw in (share.to_bytes() + b" ", b"{}", share.to_bytes().replace(b'"threshold":2', b'"threshold":1')):
        with pytest.raises(MalformedDocument):
            ReleasedShare.from_bytes(raw)
