"""Machines that the operator starts: a worker as it should be, or with what he did to it.

`python -m cloister.demo.parties.machines [--image DIR] [--old-firmware] -- OPTIONS of cloister serve`
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

START_TIMEOUT = 180.0
STOP_TIMEOUT = 20.0
OLDER = {"snp": 20, "ucode": 60}
"""Levels of the TCB below those that the parties' policies ask for."""
_LISTENING = re.compile(r"listening on (http://\S+)")


@dataclass(slots=True)
class Machine:
    """A `cloister serve` process. `log` is what it printed; `url` is empty if it did not come up."""

    process: asyncio.subprocess.Process
    url: str = ""
    log: list[str] = field(default_factory=list)
    _reader: "asyncio.Task[None] | None" = None

    async def stop(self) -> None:
        """End it, and whatever it started."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), STOP_TIMEOUT)
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()
        if self._reader is not None:
            await self._reader

    def last_words(self) -> str:
        """Why it did not come up, as the worker says it."""
        said = [line.strip() for line in self.log if "worker: not started:" in line]
        return (said or [line.strip() for line in self.log if line.strip()] or ["it said nothing"])[-1]


async def started(
    options: Sequence[str],
    *,
    image: Path | None = None,
    old_firmware: bool = False,
    on_power: Callable[[int], None] = lambda pid: None,
) -> Machine:
    """Start a machine, and wait until its worker listens or has ended. `on_power` gets its process id."""
    words = ["--image", str(image)] if image else []
    words += ["--old-firmware"] if old_firmware else []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, *words, "--", "serve", "--port", "0", *options),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    on_power(process.pid)
    machine = Machine(process)
    up = asyncio.Event()
    machine._reader = asyncio.create_task(_read(machine, up))
    with suppress(TimeoutError):
        await asyncio.wait_for(up.wait(), START_TIMEOUT)
    return machine


async def _read(machine: Machine, up: asyncio.Event) -> None:
    if machine.process.stdout is not None:
        async for raw in machine.process.stdout:
            line = raw.decode(errors="replace")
            machine.log.append(line)
            if match := _LISTENING.search(line):
                machine.url = match[1]
                up.set()
    await machine.process.wait()
    up.set()


def _main(words: list[str]) -> None:
    """Run `cloister serve` with another image or firmware under it."""
    from cloister.cli import main, serving
    from enclave.simulator import processor

    own, options = words[: words.index("--")], words[words.index("--") + 1 :]
    if "--image" in own:
        image = Path(own[own.index("--image") + 1])
        vars(serving)["launch"] = partial(processor.launch, root=image)
    if "--old-firmware" in own:
        from .firmware import launch

        vars(serving)["launch"] = launch
    sys.argv = ["cloister", *options]
    main()


if __name__ == "__main__":
    _main(sys.argv[1:])
