"""A broker as its owner starts it: a real `cloister broker serve` on a free port of loopback."""

import os
import re
import select
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.running import ROOT

_LISTENING = re.compile(rb"listening on (https?://\S+)")


@dataclass
class RunningBroker:
    """A started broker over the data in `data`. `module` is what runs it, for tests that kill it."""

    data: Path
    options: tuple[str, ...] = ("--plaintext",)
    module: tuple[str, ...] = ("-m", "cloister", "broker", "serve")
    environment: dict[str, str] = field(default_factory=dict)
    url: str = ""
    output: bytes = b""

    def start(self) -> "RunningBroker":
        """Start, and wait until it listens."""
        command = [sys.executable, *self.module, "--data", str(self.data), "--port", "0", *self.options]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | self.environment
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self.process.stdout is not None
        while not (match := _LISTENING.search(self.output)):
            ready, _, _ = select.select([self.process.stdout], [], [], 30)
            piece = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not piece:
                self.stop(signal.SIGKILL)
                raise RuntimeError(f"the broker did not start: {self.output!r}")
            self.output += piece
        self.url = match[1].decode()
        return self

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop it; its exit status."""
        self.process.send_signal(how)
        rest, _ = self.process.communicate(timeout=20)
        self.output += rest
        return self.process.returncode
