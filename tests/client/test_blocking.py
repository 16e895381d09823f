"""The event loop behind the blocking front: whoever ends it, nothing is left open."""

import asyncio
import gc
import time

import pytest

from client.blocking import Loop


async def nothing() -> None:
    """Nothing."""


def ended(loop: Loop) -> bool:
    deadline = time.monotonic() + 20
    while loop._thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    return loop._loop.is_closed()


def stopped_from_its_own_thread() -> None:
    loop = Loop()

    async def end() -> None:
        loop.stop_after(nothing())

    loop.run(end())
    assert ended(loop)
    loop.close()


def test_a_loop_that_is_told_to_stop_from_its_own_thread_is_closed() -> None:
    """As when the garbage collector finds an unclosed client there."""
    stopped_from_its_own_thread()
    gc.collect()  # an unclosed loop would say so here


def test_what_is_under_way_when_a_loop_is_closed_is_cancelled_to_its_end() -> None:
    loop, seen = Loop(), []

    async def long() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    async def begin() -> asyncio.Task[None]:
        task = asyncio.create_task(long())
        await asyncio.sleep(0)
        return task

    task = loop.run(begin())
    loop.close()
    loop.close()
    assert ended(loop) and task.cancelled() and seen == ["cleaned up"]


def test_a_closed_loop_takes_no_work_and_leaves_no_coroutine_behind() -> None:
    loop = Loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.run(nothing())
    gc.collect()
