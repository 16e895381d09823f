"""An owner's order to a broker: which sealed artifact, under which policy, how far. Checked against the
manifest that the owner signed."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from attestation import Policy
from sealing.artifact import ReleasedSecret, SignedManifest, check_commitment
from sealing.errors import SealingError
from sealing.kbs import ResourceId
from sealing.shares import split

from .errors import LimitsError
from .limits import Limits
from .store import Store

MAX_POLICY: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One artifact for a broker. `limits.policy` is the id under which `policy` (TOML) is kept."""

    resource: ResourceId
    signed: SignedManifest
    data_key: bytes = field(repr=False)
    policy: str
    limits: Limits

    def checked(self) -> "Order":
        """The order with the manifest's base root; LimitsError if it contradicts what the owner signed."""
        manifest, limits = self.signed.manifest, self.limits
        policy = Policy.from_toml(self.policy)
        if manifest.policy is not None and manifest.policy != policy.digest:
            raise LimitsError("the manifest was signed for another release policy: its digest differs")
        if limits.demo and not manifest.demo:
            raise LimitsError("the manifest is not marked demo: seal it with --demo, or use real hardware")
        if limits.base_root is not None and limits.base_root != manifest.base:
            raise LimitsError("the manifest names another base model")
        try:
            check_commitment(self.data_key, manifest.id, manifest.commitment)
        except SealingError as error:
            raise LimitsError(f"{error}") from None
        completed = replace(self, limits=replace(limits, base_root=manifest.base))
        completed.limits.check_policy(policy)
        return completed

    def secret(self) -> ReleasedSecret:
        """What is released: good until the limits' end."""
        return ReleasedSecret(
            key=self.data_key,
            manifest=self.signed.hash,
            owner=self.signed.manifest.owner.hash,
            not_after=self.limits.expires,
        )


def place(store: Store, order: Order, *, by: str, now: float) -> int:
    """Keep an order's policy, key and limits; returns the key's version."""
    order = order.checked()
    secret = order.secret().to_bytes()
    return store.place(order.resource, secret, order.policy, order.limits, by=by, now=now)


def write_shares(order: Order, *, threshold: int, count: int, folder: Path) -> list[Path]:
    """The order's secret in shares, one file for each of `count` brokers, mode 600. Overwrites nothing."""
    order = order.checked()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, share in enumerate(split(order.secret(), threshold=threshold, count=count), 1):
        path = folder / f"share-{number}-of-{count}"
        _write(path, share.to_bytes())
        paths.append(path)
    return paths


def write_secret(order: Order, path: Path) -> None:
    """The order's secret as a file of mode 600, for a key broker of another make. Overwrites nothing."""
    _write(path, order.checked().secret().to_bytes())


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
