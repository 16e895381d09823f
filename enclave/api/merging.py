"""Several answers as they are made, in one order of arrival."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from .generation import Piece
from .held import Answering


async def merged(answers: Sequence[Answering]) -> AsyncGenerator[tuple[int, Piece]]:
    """Pieces with the index of their answer. Leaving early cancels what still runs.

    An answer waits until its last piece was taken, so nothing piles up here. Raises ApiError.
    """
    if len(answers) == 1:
        async with aclosing(answers[0].pieces()) as pieces:
            async for piece in pieces:
                yield 0, piece
        return
    queue: asyncio.Queue[tuple[int, Piece | BaseException | None]] = asyncio.Queue(1)
    tasks = [asyncio.create_task(_pump(at, answer, queue)) for at, answer in enumerate(answers)]
    try:
        left = len(answers)
        while left:
            at, item = await queue.get()
            if item is None:
                left -= 1
            elif isinstance(item, Piece):
                yield at, item
            else:
                raise item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for answer in answers:
            answer.close()


async def _pump(
    at: int, answer: Answering, queue: "asyncio.Queue[tuple[int, Piece | BaseException | None]]"
) -> None:
    try:
        async with aclosing(answer.pieces()) as pieces:
            async for piece in pieces:
                await queue.put((at, piece))
    except Exception as error:  # whatever ended this answer is raised where the answers are read
        await queue.put((at, error))
    else:
        await queue.put((at, None))
