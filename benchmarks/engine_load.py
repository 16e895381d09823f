"""Four load profiles over HTTP, sealed and plain: requests arrive on their own clock, whoever is served."""

import asyncio
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp

from benchmarks.overhead import worker
from benchmarks.report import Figure, at_most
from client.events import event_data
from client.sdk import AsyncClient

Pieces = Callable[["Profile", int], AsyncIterator[str]]


@dataclass(frozen=True, slots=True)
class Profile:
    """What people of one kind ask: prompt and answer in tokens, requests a second."""

    name: str
    prompt: int
    answer: int
    rate: float


PROFILES = (
    Profile("chatbot", 32, 32, 6.0),
    Profile("summarising", 600, 32, 3.0),
    Profile("content", 32, 300, 1.5),
    Profile("enterprise", 600, 300, 1.0),
)
SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer: seconds to its first event, seconds between the others."""

    first: float
    gaps: list[float]


async def profiles(rounds: int) -> list[Figure]:
    """First-event and inter-event times of each profile, in turn sealed and plain."""
    figures: list[Figure] = []
    with worker() as (url, plain_url, policy):
        async with AsyncClient(url, policy) as client, aiohttp.ClientSession() as session:
            sides = {"sealed": _sealed(client), "plain": _plain(session, plain_url)}
            for side in sides.values():
                await _load(side, Profile("warm", 8, 4, 4.0), 1.0, 0)
            for profile in PROFILES:
                seen: dict[str, list[Seen]] = {name: [] for name in sides}
                for at in range(rounds):
                    for name, side in sides.items():
                        seen[name] += await _load(side, profile, SECONDS, at)
                figures += _figures(profile, seen)
    return figures


def _figures(profile: Profile, seen: dict[str, list[Seen]]) -> list[Figure]:
    figures = []
    for side, answers in seen.items():
        first = sorted(1000 * one.first for one in answers)
        gaps = sorted(1000 * gap for one in answers for gap in one.gaps)
        for what, values in (("first token", first), ("between tokens", gaps)):
            for share in (50, 99):
                value = values[min(len(values) - 1, len(values) * share // 100)]
                figures.append(at_most(f"{profile.name}, {side}: {what}, p{share}", value, "ms"))
    medians = [statistics.median(one.first for one in seen[side]) for side in ("sealed", "plain")]
    ratio = medians[0] / medians[1]
    return [*figures, at_most(f"{profile.name}: first token, sealed over plain", ratio, "ratio")]


async def _load(side: Pieces, profile: Profile, seconds: float, seed: int) -> list[Seen]:
    """Poisson arrivals for so long, then wait for all of them."""
    # By profile: the sealed side sends a salt, and would find prefixes that another profile asked for.
    chance = random.Random(f"{profile.name} {seed}")
    start, due = time.perf_counter(), 0.0
    tasks = []
    while True:
        due += chance.expovariate(profile.rate)
        if due > seconds:
            return list(await asyncio.gather(*tasks))
        await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
        tasks.append(asyncio.create_task(_answer(side, profile, chance.randrange(2**31))))


async def _answer(side: Pieces, profile: Profile, seed: int) -> Seen:
    start = last = time.perf_counter()
    first, gaps = 0.0, []
    async for data in side(profile, seed):
        now = time.perf_counter()
        if data == "[DONE]":
            break
        if first:
            gaps.append(now - last)
        else:
            first = now - start
        last = now
    return Seen(first, gaps)


def _body(profile: Profile, seed: int) -> dict[str, object]:
    chance = random.Random(seed)
    return {
        "model": "faq",
        "prompt": [chance.randrange(3, 2000) for _ in range(profile.prompt)],
        "max_tokens": profile.answer,
        "temperature": 2.0,
        "seed": seed,
        "stream": True,
    }


def _sealed(client: AsyncClient) -> Pieces:
    async def pieces(profile: Profile, seed: int) -> AsyncIterator[str]:
        headers = ((b"content-type", b"application/json"),)
        content = json.dumps(_body(profile, seed)).encode()
        async with client.request("POST", "/v1/completions", content, headers) as response:
            async for data in event_data(response.body):
                yield data

    return pieces


def _plain(session: aiohttp.ClientSession, url: str) -> Pieces:
    async def pieces(profile: Profile, seed: int) -> AsyncIterator[str]:
        async with session.post(f"{url}/v1/completions", json=_body(profile, seed)) as response:
            async for data in event_data(response.content.iter_any()):
                yield data

    return pieces
