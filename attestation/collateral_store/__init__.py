"""Collateral on disk: a store that honours validity, and bundles for verifiers without a network."""

from .bundle import FORMAT, read_bundle, write_bundle
from .facts import Facts, Freshness, describe
from .files import write_atomically
from .store import Entry, Item, Store, default_directory, gathered

__all__ = [
    "FORMAT",
    "Entry",
    "Facts",
    "Freshness",
    "Item",
    "Store",
    "default_directory",
    "describe",
    "gathered",
    "read_bundle",
    "write_atomically",
    "write_bundle",
]
