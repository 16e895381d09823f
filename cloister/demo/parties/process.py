"""A party's process as the director sees it: orders go in, answers come back, events go on."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

from .lines import MAX_LINE, Values

STOP = 20.0


class PartyFailed(Exception):
    """An order that a party could not carry out; the message is the party's own."""


@dataclass(slots=True)
class PartyProcess:
    """One running party. `heard` is called with each of its events."""

    name: str
    folder: Path
    heard: Callable[[Values], None]
    _process: asyncio.subprocess.Process | None = None
    _waiting: dict[int, "asyncio.Future[Values]"] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=count)
    _reader: "asyncio.Task[None] | None" = None

    async def start(self, module: str) -> Self:
        """Start `python -m module NAME FOLDER`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = (self.folder / "stderr.log").open("wb")
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, self.name, str(self.folder)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            limit=MAX_LINE,
            start_new_session=True,
        )
        log.close()
        self._reader = asyncio.create_task(self._read(self._process))
        return self

    async def do(self, what: str, **values: Any) -> Values:
        """Give an order and wait for its answer. Raises PartyFailed."""
        number = next(self._numbers)
        answer: asyncio.Future[Values] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        line = json.dumps({"id": number, "do": what, "with": values}) + "\n"
        if self._process is None or self._process.stdin is None or self._process.returncode is not None:
            raise PartyFailed(f"{self.name} is not running")
        self._process.stdin.write(line.encode())
        return await answer

    async def stop(self) -> None:
        """End its input, which ends it; kill what does not end."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP)
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._reader is not None:
            await self._reader

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is not None:
            while raw := await process.stdout.readline():
                self._take(json.loads(raw))
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(PartyFailed(f"{self.name} ended; see {self.folder / 'stderr.log'}"))

    def _take(self, line: Values) -> None:
        if "event" in line:
            self.heard(line)
        elif "done" in line:
            self._waiting.pop(line["done"]).set_result(line["result"])
        else:
            self._waiting.pop(line["failed"]).set_exception(PartyFailed(line["error"]))
