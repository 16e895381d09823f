"""An artifact's key from k of n brokers: shares joined here, in the worker, and nowhere else.

A share alone cannot be judged, so the key that they make is held against the manifest's commitment; where
more than k brokers answered, the choice of shares that fits tells which of the others lied.
"""

import itertools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sealing.artifact import ReleasedSecret
from sealing.errors import SealingError
from sealing.kbs import ResourceId
from sealing.shares import MAX_SHARES, ReleasedShare

from .attester import Attester
from .client import fetch
from .errors import BrokerLied, BrokerUnreachable, ReleaseError, SharesDisagree, TooFewShares
from .secret import Expected
from .transport import Transport

log = logging.getLogger(__name__)

Check = Callable[[bytes], bool]
"""Whether a key is the artifact's: its commitment is the manifest's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """The brokers and how many of them have to agree. ValueError unless 2 <= threshold <= brokers <= 16."""

    brokers: Sequence[Transport]
    threshold: int

    def __post_init__(self) -> None:
        if not 2 <= self.threshold <= len(self.brokers) <= MAX_SHARES:
            raise ValueError(f"2 <= threshold <= brokers <= {MAX_SHARES}")
        if len({broker.name for broker in self.brokers}) != len(self.brokers):
            raise ValueError("each broker is named once")


@dataclass(frozen=True, slots=True)
class Given:
    """A share and the broker that gave it."""

    broker: str
    share: ReleasedShare
    identifier: int
    index: int


def release_from_quorum(
    quorum: Quorum,
    resource: ResourceId,
    attester: Attester,
    expected: Expected,
    commits: Check,
    *,
    clock: Callable[[], float],
) -> ReleasedSecret:
    """The secret made of the shares of at least `threshold` brokers. Blocks; a fresh report for each broker.

    Brokers are asked side by side. Raises TooFewShares, SharesDisagree and what `fetch` raises of the
    worker's own hardware.
    """
    with ThreadPoolExecutor(len(quorum.brokers)) as pool:
        asked = [pool.submit(_share, each, resource, attester, expected, clock) for each in quorum.brokers]
    given: list[Given] = []
    refused: list[str] = []
    unreached = 0
    for future in asked:
        try:
            given.append(future.result())
        except ReleaseError as error:
            refused.append(str(error))
            unreached += isinstance(error, BrokerUnreachable)
    return join(given, quorum.threshold, commits, refused=refused, unreached=unreached)


def join(
    given: Sequence[Given],
    threshold: int,
    commits: Check,
    *,
    refused: Sequence[str] = (),
    unreached: int = 0,
) -> ReleasedSecret:
    """The secret that `threshold` of the shares make and `commits` confirms.

    Fewer shares: TooFewShares. The same share from two brokers, shares of another key, or none that fit:
    SharesDisagree, which names the brokers that lied where that can be told.
    """
    if len(given) < threshold:
        said = "; ".join(refused) or "no more were asked"
        text = f"{len(given)} shares of the {threshold} that are needed: {said}"
        raise TooFewShares(text, undecided=len(given) + unreached >= threshold)
    _check_distinct(given)
    for chosen in itertools.combinations(given, threshold):
        key = _combined(chosen)
        if key is not None and commits(key):
            for broker in _liars(given, chosen, key):
                log.warning("%s gave a share that does not belong to this key", broker)
            share = chosen[0].share
            end = min(item.share.not_after for item in chosen)
            return ReleasedSecret(key=key, manifest=share.manifest, owner=share.owner, not_after=end)
    raise SharesDisagree(_blame(given, threshold))


def _liars(given: Sequence[Given], chosen: Sequence[Given], key: bytes) -> list[str]:
    """The brokers whose share, in the place of one of the `chosen` that make `key`, does not make it."""
    spare = [item for item in given if item not in chosen]
    return [item.broker for item in spare if _combined([*chosen[1:], item]) != key]


def _share(
    transport: Transport,
    resource: ResourceId,
    attester: Attester,
    expected: Expected,
    clock: Callable[[], float],
) -> Given:
    from shamir_mnemonic import MnemonicError, Share

    try:
        share = ReleasedShare.from_bytes(fetch(transport, resource, attester))
        words = Share.from_mnemonic(share.mnemonic)
    except (SealingError, MnemonicError):
        raise BrokerLied("what it released is no share", broker=transport.name) from None
    name = transport.name
    expected.check(share.manifest, share.owner, share.not_after, now=clock(), broker=name)
    if words.member_threshold != share.threshold or words.group_count != 1:
        raise BrokerLied("its share is of another scheme than it says", broker=name)
    if words.iteration_exponent:
        raise BrokerLied("its share asks for work that no share of ours asks for", broker=name)
    return Given(name, share, words.identifier, words.index)


def _check_distinct(given: Sequence[Given]) -> None:
    for one, two in itertools.combinations(given, 2):
        if one.share.mnemonic == two.share.mnemonic:
            raise SharesDisagree(f"{one.broker} and {two.broker} gave the same share")


def _combined(chosen: Sequence[Given]) -> bytes | None:
    from shamir_mnemonic import MnemonicError, combine_mnemonics

    try:
        key: bytes = combine_mnemonics([item.share.mnemonic for item in chosen])
        return key
    except MnemonicError:
        return None


def _blame(given: Sequence[Given], threshold: int) -> str:
    """What can be said when no choice of shares makes the key."""
    sets: dict[int, list[str]] = {}
    for item in given:
        sets.setdefault(item.identifier, []).append(item.broker)
    if len(sets) > 1:
        groups = "; ".join(", ".join(brokers) for brokers in sets.values())
        return f"shares of different keys, by broker: {groups}"
    names = ", ".join(item.broker for item in given)
    return f"no {threshold} of these shares make this artifact's key: {names}; one of them lies"
