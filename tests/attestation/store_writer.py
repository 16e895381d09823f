"""Another process that fills a store. It imports the store alone: a test waits for its start."""

from datetime import datetime
from pathlib import Path

from attestation.collateral_store import Item, Store

ROUNDS = 5


def fill(directory: Path, items: list[Item], at: datetime) -> None:
    """Record each item as the answer to the same question, several times."""
    for _ in range(ROUNDS):
        for each in items:
            Store(directory).record("question", [each], at)
