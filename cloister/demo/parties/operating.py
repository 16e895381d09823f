"""The operator's process: his disk, his network, his machines, and what he tries."""

import asyncio
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import attacks
from .lines import Say, Values
from .machines import Machine, started
from .proxy import Passed, Router, worth_showing
from .second_gpu import SecondGpu
from .tap import Tap


@dataclass(frozen=True, slots=True)
class Setup:
    """How the operator starts a worker: the options of `cloister serve`, some of which name his disk."""

    options: tuple[str, ...]
    disk: Path

    def on(self, disk: Path) -> tuple[str, ...]:
        """The same with another disk."""
        return tuple(word.replace(str(self.disk), str(disk)) for word in self.options)


class Operator:
    """Everything that is not in the TEE."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.say = Say(name)
        self._router = Router(seen=self._saw)
        self._machine: Machine | None = None
        self._setup: Setup | None = None
        self._spare: Machine | None = None
        self._tap: Tap | None = None

    async def start(self, options: list[str], disk: str) -> Values:
        """Start the worker and a router in front of it, which is all that the others ever reach."""
        self._setup = Setup(tuple(options), Path(disk))
        self._machine = await started(options, on_power=self._tapped)
        if not self._machine.url:
            raise RuntimeError(self._machine.last_words())
        (self.folder / "worker.log").write_text("".join(self._machine.log))
        await self._router.start()
        self._router.target = self._machine.url
        self.say("started", "started the machine; the security processor measured it before its first line")
        return {"url": self._router.url}

    async def wire(self) -> Values:
        """Write down everything that passed to and from the worker, but the evidence, which is public."""
        path = self.folder / "wire.bin"
        passed = [p for p in self._router.passed if p.path == "/ohttp"]
        path.write_bytes(b"\n".join(each.bytes_seen for each in passed))
        return {"file": str(path), "bytes": path.stat().st_size, "requests": len(passed)}

    async def bus(self) -> Values:
        """Write down everything that crossed the bus since the machine was switched on."""
        if self._tap is None:
            raise RuntimeError("nothing runs")
        return await asyncio.to_thread(self._tap.save, self.folder / "bus.bin")

    async def disk(self) -> Values:
        """What lies on his disk, logs included."""
        if self._setup is None or self._machine is None:
            raise RuntimeError("nothing runs")
        (self.folder / "worker.log").write_text("".join(self._machine.log))
        return {"folder": str(self._setup.disk), "log": str(self.folder / "worker.log")}

    async def replay(self) -> Values:
        """Send a recorded request once more."""
        recorded = next(p for p in reversed(self._router.passed) if p.path == "/ohttp" and p.status == 200)
        status, body = await self._router.send("POST", "/ohttp", recorded.sent, attacks.SEALED_REQUEST)
        return {"status": status, "answer": attacks.readable(body)}

    async def splice(self, reference: str) -> Values:
        """From now on, answer requests for evidence with another GPU's evidence in it."""
        gpu = SecondGpu.with_firmware(bytes.fromhex(reference))
        self._router.alter = lambda raw: attacks.spliced(raw, gpu)
        return {}

    async def honest(self) -> Values:
        """Stop meddling: evidence passes as it is, requests go to the first machine."""
        self._router.alter = None
        if self._machine is not None:
            self._router.target = self._machine.url
        if self._spare is not None:
            await self._spare.stop()
            self._spare = None
        return {}

    async def swap(self) -> Values:
        """Start a machine from an image with one line changed, and send requests there."""
        image = Path(tempfile.mkdtemp(dir=self.folder)) / "image"
        changed = await asyncio.to_thread(attacks.changed_image, image)
        return {"changed": changed} | await self._another(image=image)

    async def downgrade(self) -> Values:
        """Start a machine with older firmware, and send requests there."""
        return {"changed": attacks.ROLLED_BACK} | await self._another(old_firmware=True)

    async def tamper(self) -> Values:
        """Flip one bit of a sealed chunk on a copy of the disk, and start a machine from it."""
        return await self._from_copy(attacks.flip_chunk)

    async def rewrite(self) -> Values:
        """Allow more tokens in the consent on a copy of the disk, and start a machine from it."""
        return await self._from_copy(attacks.rewrite_consent)

    async def close(self) -> None:
        """Stop everything."""
        await self.honest()
        await self._router.stop()
        if self._tap is not None:
            self._tap.close()
        if self._machine is not None:
            await self._machine.stop()

    async def _from_copy(self, harm: "attacks.Harm") -> Values:
        if self._setup is None:
            raise RuntimeError("nothing runs")
        copy = Path(tempfile.mkdtemp(dir=self.folder)) / "disk"
        shutil.copytree(self._setup.disk, copy)
        return {"changed": harm(copy)} | await self._another(disk=copy)

    async def _another(
        self, *, image: Path | None = None, old_firmware: bool = False, disk: Path | None = None
    ) -> Values:
        """A second machine in place of the first, if it comes up at all."""
        if self._setup is None:
            raise RuntimeError("nothing runs")
        options = self._setup.on(disk) if disk else self._setup.options
        self._spare = await started(options, image=image, old_firmware=old_firmware)
        if self._spare.url:
            self._router.target = self._spare.url
            return {"up": True, "said": ""}
        said = self._spare.last_words()
        await self._spare.stop()
        self._spare = None
        return {"up": False, "said": said}

    def _saw(self, passed: Passed) -> None:
        self.say("wire", f"{passed.method} {passed.path[:60]}", **worth_showing(passed))
        if self._tap is not None and (news := self._tap.news()):
            self.say("bus", f"{news['records']} records crossed the bus", **news)

    def _tapped(self, pid: int) -> None:
        """The machine is on: listen on its bus from the first record."""
        self._tap = Tap(pid)


if __name__ == "__main__":
    sys.exit("started by party.py")
