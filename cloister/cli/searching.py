"""`cloister search`: passages of documents that a worker holds, for a party of its consent."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from client.artifacts.keys import read_owner_key
from client.sdk import AsyncClient
from client.searching import Quoted, party_token, search

from .asking import NOTES, close, write
from .files import read_policy
from .sealing import passphrase


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Words to look for in documents, as a party whose key is in a PEM file."""

    documents: str
    words: str
    party: str
    key: Path
    limit: int


def run(wanted: Wanted, policy: Path, url: str) -> int:
    """Print passages with their source; 0, or 3 if the worker is simulated."""
    token = party_token(wanted.party, read_owner_key(wanted.key, passphrase=passphrase()))
    rules = read_policy(policy)

    async def asked() -> list[Quoted]:
        async with AsyncClient(url, rules, token=token) as client:
            return await search(client, wanted.documents, wanted.words, limit=wanted.limit)

    passages = asyncio.run(asked())
    for passage in passages:
        write(f"{passage.path}, lines {passage.first}-{passage.last}\n{passage.text}\n\n")
    if not passages:
        NOTES.print("no passage shares a word with that")
    return close(simulated=rules.roots.simulated)
