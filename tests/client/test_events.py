"""Event streams: data lines however they are cut, comments dropped, everything bounded."""

import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import BrokenAnswer
from client.events import MAX_EVENT, event_data


async def pieces(items: list[bytes]) -> AsyncIterator[bytes]:
    for item in items:
        yield item


async def read(items: list[bytes]) -> list[str]:
    return [data async for data in event_data(pieces(items))]


@given(st.lists(st.integers(0, 60), max_size=6))
async def test_cuts_do_not_matter(cuts: list[int]) -> None:
    raw = b": padding\n\ndata: one\r\ndata:two\n\n: ...\ndata: three\n\n"
    borders = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    cut = [raw[a:b] for a, b in itertools.pairwise(borders)]
    assert await read(cut) == ["one\ntwo", "three"]


@pytest.mark.parametrize("line", [b"data: " + b"x" * 1000, b"data: " + b"x" * 1000 + b"\n"])
async def test_an_endless_event_is_given_up(line: bytes) -> None:
    with pytest.raises(BrokenAnswer, match="exceeds"):
        await read([line] * (MAX_EVENT // 1000 + 9))


async def test_bytes_that_are_not_text_are_named() -> None:
    with pytest.raises(BrokenAnswer, match="UTF-8"):
        await read([b"data: \xff\n\n"])
