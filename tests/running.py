"""A worker as a user starts it: a real `cloister serve` process on a free port of loopback."""

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from attestation import Policy

ROOT = Path(__file__).resolve().parents[1]
FAQ = ROOT / "models" / "faq" / "model"
START_TIMEOUT = 90.0
_LISTENING = re.compile(r"listening on (http://\S+)")


@dataclass
class RunningWorker:
    """A started worker. `log` collects everything it printed; `directory` holds its policy file."""

    directory: Path
    options: tuple[str, ...] = ()
    url: str = ""
    log: list[str] = field(default_factory=list)

    @property
    def policy_file(self) -> Path:
        return self.directory / "worker.toml"

    @property
    def policy(self) -> Policy:
        return Policy.from_file(self.policy_file)

    @property
    def output(self) -> str:
        return "".join(self.log)

    @property
    def pid(self) -> int:
        """The launcher's pid: the security processor, the worker and its devices are below it."""
        return self._process.pid

    def start(self) -> "RunningWorker":
        """Start and wait until it listens; fails with its output if it does not."""
        command = [
            *(sys.executable, "-m", "cloister", "serve", "--port", "0", "--engine", "threads=1"),
            *("--write-policy", str(self.policy_file), *self.options),
        ]
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command,
            cwd=self.directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        listening = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(listening,), daemon=True)
        self._reader.start()
        if not listening.wait(START_TIMEOUT) or not self.url:
            self.stop()
            raise RuntimeError(f"the worker did not start:\n{self.output}")
        return self

    def _read(self, listening: threading.Event) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log.append(line)
            if match := _LISTENING.search(line):
                self.url = match[1]
                listening.set()
        listening.set()

    def files(self) -> list[Path]:
        """Every regular file that the worker's processes have open or mapped, or that lies in `directory`."""
        found = {path for path in self.directory.rglob("*") if path.is_file()}
        for process in self._processes():
            with suppress(OSError):
                found |= _opened_by(process)
        return sorted(path for path in found if path.is_file())

    def interrupt(self) -> int:
        """Ctrl-C, as a person stops it; returns the exit code."""
        os.kill(self._process.pid, signal.SIGINT)
        return self._process.wait(20)

    def kill(self) -> None:
        """kill -9 for launcher, security processor, worker and devices."""
        while processes := self._processes():
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(int(process.name), signal.SIGKILL)
            self._process.wait(20)
        self._process.wait(20)  # it may have ended by itself just before

    def stop(self) -> None:
        """Stop whatever still runs."""
        if self._process.poll() is None:
            self.kill()
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _processes(self) -> list[Path]:
        """The folders in /proc of all that run in the launcher's session, which is its own."""
        running = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [path for path in running if session_of(path) == self._process.pid]


def session_of(process: Path) -> int | None:
    """The session of a process, None if it has ended."""
    try:
        state, _, _, session, *_ = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(session)


def _opened_by(process: Path) -> set[Path]:
    found = {Path(os.readlink(link)) for link in (process / "fd").iterdir()}
    for line in (process / "maps").read_text().splitlines():
        name = line.split(maxsplit=5)[5:]
        if name and name[0].startswith("/"):
            found.add(Path(name[0]))
    return found


def cloister(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [sys.executable, "-m", "cloister", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, env=environment
    )
