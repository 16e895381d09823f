"""The demo's worker: `cloister serve` in a process of its own."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

START_TIMEOUT = 120.0
STOP_TIMEOUT = 15.0
_LISTENING = re.compile(r"listening on (http://\S+)")


class DemoFailed(Exception):
    """The worker did not start; the message holds what it printed."""


@asynccontextmanager
async def started(policy: Path) -> AsyncIterator[str]:
    """The URL of a worker with the shipped model, stopped at the end; its policy is written to `policy`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cloister", "serve", "--port", "0", "--write-policy", str(policy)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    try:
        yield await asyncio.wait_for(_url(process), START_TIMEOUT)
    finally:
        await _stop(process)


async def _url(process: asyncio.subprocess.Process) -> str:
    printed: list[str] = []
    if process.stdout is not None:
        async for raw in process.stdout:
            line = raw.decode(errors="replace")
            printed.append(line)
            if match := _LISTENING.search(line):
                return match[1]
    raise DemoFailed("the worker did not start:\n" + "".join(printed))


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGINT)
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
