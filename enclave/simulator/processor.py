"""The simulated security processor as a process: it measures, then starts the worker that it measured.

`launch` starts it as `python -m enclave.simulator.processor`. It holds the signing keys, hands the worker
one end of a socket pair, answers on the other (messages.py), and ends with the worker's exit status.
The worker is killed when the processor ends, and stopped when whoever launched the processor does.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .answering import Attendant, SecurityProcessor
from .chip import SnpProcessor
from .gpu import GpuIdentity, device_code
from .measure import Measurement, measure
from .sources import PACKAGES, ROOT, UNMEASURED, MeasurementError, SearchPath, interpreter

WORKER: Final = "enclave.worker"
STOP_SECONDS: Final = 15
MAX_DEVICES: Final = 16
_CANNOT_MEASURE: Final = 1
_PASSED_ON = ("CUDA_VISIBLE_DEVICES", "NO_COLOR", "OMP_NUM_THREADS", "TERM", "TZ")
_FIXED = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HF_HUB_OFFLINE": "1",
    "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
}


@dataclass(frozen=True, slots=True)
class LaunchedWorker:
    """A security processor with its worker, as one process to its launcher."""

    process: subprocess.Popen[bytes]

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        status = self.process.poll()
        if status is not None:
            self._let_go()
        return status

    def wait(self, timeout: float | None = None) -> int:
        """The worker's exit status, 128 + n if signal n ended it. Raises subprocess.TimeoutExpired."""
        status = self.process.wait(timeout)
        self._let_go()
        return status

    def terminate(self) -> None:
        """Ask the worker to stop; after 15 s it is killed."""
        self.process.terminate()

    def kill(self) -> None:
        """End processor and worker at once."""
        self.process.kill()

    def _let_go(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()


def launch(
    configuration: Mapping[str, Any],
    *,
    local: Mapping[str, Any] | None = None,
    worker: str = WORKER,
    devices: int = 1,
    root: Path = ROOT,
) -> LaunchedWorker:
    """Start a security processor that measures and then starts a worker; returns at once.

    `configuration` (JSON values) is measured; `local` is not, and is for what differs between
    machines, such as paths and ports. The worker's `main(configuration, processor_socket)` gets both
    in one table. `worker` is a module of the measured packages. `devices`: simulated GPUs. Output passes
    through. Raises ValueError if a name is in both tables, or for fewer than 1 or more than 16
    devices.
    """
    common = configuration.keys() & (local or {}).keys()
    if common or not 1 <= devices <= MAX_DEVICES:
        raise ValueError(f"both measured and local: {sorted(common)}, or devices not 1 to {MAX_DEVICES}")
    settings = {
        "configuration": dict(configuration),
        "local": dict(local or {}),
        "worker": worker,
        "devices": devices,
        "root": str(root),
    }
    command = [sys.executable, "-E", "-s", "-B", "-m", "enclave.simulator.processor"]
    process = subprocess.Popen(command, cwd=root, env=environment(), stdin=subprocess.PIPE)
    # The pipe stays open: its end tells the processor that its launcher is gone.
    _hand_over(process, json.dumps(settings).encode() + b"\n", close=False)
    return LaunchedWorker(process)


def environment() -> dict[str, str]:
    """The environment of processor and worker: variables are not measured, so there are few."""
    return _FIXED | {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def main() -> int:
    """Measure, start the worker, answer it, and return its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    settings = json.loads(sys.stdin.buffer.readline())
    try:
        measured = measure(settings["configuration"], root=Path(settings["root"]))
    except MeasurementError as error:
        print(f"security processor: {error}", file=sys.stderr)
        return _CANNOT_MEASURE
    code = device_code(measured)
    gpus = [GpuIdentity(code, index) for index in range(settings["devices"])]
    processor = SecurityProcessor(SnpProcessor(measured.digest), gpus)
    ours, theirs = socket.socketpair()
    with theirs:
        worker = _start(settings, measured, theirs)
    status = _serve(worker, Attendant(ours, processor), ours)
    return status if status >= 0 else 128 - status


def _start(settings: Mapping[str, Any], measured: Measurement, end: socket.socket) -> subprocess.Popen[bytes]:
    """The worker's process, from the files that were measured."""
    root = Path(settings["root"])
    orders = {
        "root": str(root),
        "files": measured.own_files(),
        "names": [*PACKAGES, *UNMEASURED],
        "path": SearchPath.current().entries(),
        "prefix": sys.prefix,
        "parent": os.getpid(),
        "socket": end.fileno(),
        "worker": settings["worker"],
        "configuration": settings["local"] | settings["configuration"],
    }
    script = root / "enclave" / "simulator" / "bootstrap.py"
    worker = subprocess.Popen(
        [interpreter(), "-I", "-S", "-B", "-u", str(script)],
        cwd="/",
        env=environment(),
        stdin=subprocess.PIPE,
        pass_fds=[end.fileno()],
    )
    _hand_over(worker, json.dumps(orders).encode())
    return worker


def _hand_over(process: subprocess.Popen[bytes], content: bytes, *, close: bool = True) -> None:
    """Write to the standard input of `process`; if it has ended already, `wait` will say how."""
    if process.stdin is None:
        raise RuntimeError("started without a pipe")
    with suppress(BrokenPipeError):
        process.stdin.write(content)
        process.stdin.flush()
        if close:
            process.stdin.close()


def _serve(worker: subprocess.Popen[bytes], attendant: Attendant, ours: socket.socket) -> int:
    """Answer the worker until it ends; its return code."""
    signal.signal(signal.SIGINT, lambda *_: None)  # a terminal sends it to the worker as well
    signal.signal(signal.SIGTERM, lambda *_: _stop(worker))
    signal.signal(signal.SIGALRM, lambda *_: worker.kill())
    with selectors.DefaultSelector() as selector:
        ended = os.pidfd_open(worker.pid)
        for source in (ours, ended, sys.stdin):
            selector.register(source, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if ended in ready:
                return worker.wait()
            if ours in ready and not attendant.attend():
                selector.unregister(ours)
            if sys.stdin in ready:
                selector.unregister(sys.stdin)  # nothing is sent there: whoever launched us is gone
                _stop(worker)


def _stop(worker: subprocess.Popen[bytes]) -> None:
    """Ask the worker to stop, and have it killed if it does not."""
    worker.terminate()
    signal.alarm(STOP_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
