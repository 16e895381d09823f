"""The simulated security processor as a process: it measures, then starts the worker and devices it measured.

`launch` starts it as `python -m enclave.simulator.processor`. It holds the CPU's signing key, hands the
worker one end of a socket pair, answers on the other (messages.py), and ends with the worker's exit status.
Devices (devices.py) hold their own keys. All are killed when the processor ends, and the worker is stopped
when whoever launched the processor ends.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .answering import Attendant, SecurityProcessor
from .chip import SnpProcessor
from .devices import Devices
from .gpu import Mode, device_code, measurement_digest
from .measure import Measurement, measure
from .reference import device_policy
from .sources import PACKAGES, ROOT, UNMEASURED, MeasurementError, SearchPath, interpreter

WORKER: Final = "enclave.worker"
STOP_SECONDS: Final = 15
MAX_DEVICES: Final = 16
_CANNOT_MEASURE: Final = 1
_NO_ORDERS: Final = 130
_MOMENT: Final = 0.5
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
    device_mode: Mode = Mode.CONFIDENTIAL,
    root: Path = ROOT,
) -> LaunchedWorker:
    """Start a security processor that measures and then starts a worker; returns at once.

    `configuration` (JSON values) is measured; `local` is not, and is for what differs between
    machines, such as paths and ports. The worker's `main(configuration, processor_socket)` gets both
    in one table, and under "buses" the descriptors of each device's bus, under "gpu_policy" what to judge the
    devices by. `worker` is a module of the measured packages. `devices`: simulated GPUs, switched on in
    `device_mode`. Output passes through. Raises ValueError if a name is in both tables, or for fewer than 1
    or more than 16 devices.
    """
    common = configuration.keys() & (local or {}).keys()
    if common or not 1 <= devices <= MAX_DEVICES:
        raise ValueError(f"both measured and local: {sorted(common)}, or devices not 1 to {MAX_DEVICES}")
    settings = {
        "configuration": dict(configuration),
        "local": dict(local or {}),
        "worker": worker,
        "devices": devices,
        "device_mode": device_mode.value,
        "root": str(root),
    }
    command = [sys.executable, "-E", "-s", "-B", "-m", "enclave.simulator.processor"]
    process = subprocess.Popen(command, cwd=root, env=environment(), stdin=subprocess.PIPE, process_group=0)
    # A group of its own: Ctrl-C goes to the launcher alone, which stops it.
    # The pipe stays open: its end tells the processor that its launcher is gone.
    _hand_over(process, json.dumps(settings).encode() + b"\n", close=False)
    return LaunchedWorker(process)


def environment() -> dict[str, str]:
    """The environment of processor and worker: variables are not measured, so there are few."""
    return _FIXED | {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def main() -> int:
    """Measure, start the worker, answer it, and return its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    orders = sys.stdin.buffer.readline()
    if not orders:
        return _NO_ORDERS  # whoever launched us was interrupted
    settings = json.loads(orders)
    try:
        measured = measure(settings["configuration"], root=Path(settings["root"]))
    except MeasurementError as error:
        print(f"security processor: {error}", file=sys.stderr)
        return _CANNOT_MEASURE
    code = device_code(measured)

    def start(module: str, end: socket.socket, more: Sequence[int], given: Any) -> subprocess.Popen[bytes]:
        return _start(settings, measured, module, end, more, given)

    devices = Devices(settings["devices"], code, Mode(settings["device_mode"]), start)
    processor = SecurityProcessor(SnpProcessor(measured.digest), reset=devices.reset)
    devices.power_on(processor)
    buses = [board.bus.descriptors.numbers() for board in devices.boards]
    given = settings["local"] | settings["configuration"]
    given |= {"buses": buses, "gpu_policy": device_policy(measurement_digest(code))}
    ours, theirs = socket.socketpair()
    with theirs:
        worker = start(settings["worker"], theirs, [number for bus in buses for number in bus], given)
    try:
        status = _serve(worker, Attendant(ours, processor), ours, devices, processor)
    finally:
        devices.power_off()
    return status if status >= 0 else 128 - status


def _start(
    settings: Mapping[str, Any],
    measured: Measurement,
    module: str,
    end: socket.socket,
    more: Sequence[int],
    given: Mapping[str, Any],
) -> subprocess.Popen[bytes]:
    """A process that runs `module`, from the files that were measured, with `given` as its settings."""
    root = Path(settings["root"])
    orders = {
        "root": str(root),
        "files": measured.own_files(),
        "names": [*PACKAGES, *UNMEASURED],
        "path": SearchPath.current().entries(),
        "prefix": sys.prefix,
        "parent": os.getpid(),
        "socket": end.fileno(),
        "worker": module,
        "configuration": dict(given),
    }
    script = root / "enclave" / "simulator" / "bootstrap.py"
    process = subprocess.Popen(
        [interpreter(), "-I", "-S", "-B", "-u", str(script)],
        cwd="/",
        env=environment(),
        stdin=subprocess.PIPE,
        pass_fds=[end.fileno(), *more],
    )
    _hand_over(process, json.dumps(orders).encode())
    return process


def _hand_over(process: subprocess.Popen[bytes], content: bytes, *, close: bool = True) -> None:
    """Write to the standard input of `process`; if it has ended already, `wait` will say how."""
    if process.stdin is None:
        raise RuntimeError("started without a pipe")
    with suppress(BrokenPipeError):
        process.stdin.write(content)
        process.stdin.flush()
        if close:
            process.stdin.close()


def _serve(
    worker: subprocess.Popen[bytes],
    attendant: Attendant,
    ours: socket.socket,
    devices: Devices,
    processor: SecurityProcessor,
) -> int:
    """Answer the worker and mind the devices until the worker ends; its return code."""
    signal.signal(signal.SIGINT, lambda *_: None)  # a terminal sends it to the worker as well
    signal.signal(signal.SIGTERM, lambda *_: _stop(worker))
    signal.signal(signal.SIGALRM, lambda *_: worker.kill())
    ended = os.pidfd_open(worker.pid)
    own: list[Any] = [ours, ended, sys.stdin]
    while True:
        ready = _ready([*own, *devices.sources()])
        if ended in ready:
            return worker.wait()
        devices.attend(ready)
        devices.power_on(processor)
        if ours in ready and not attendant.attend():
            own.remove(ours)
        if sys.stdin in ready:
            own.remove(sys.stdin)  # nothing is sent there: whoever launched us is gone
            _stop(worker)


def _ready(sources: list[Any]) -> set[Any]:
    """Those of `sources` that are readable, after a moment at most."""
    with selectors.DefaultSelector() as selector:
        for source in sources:
            selector.register(source, selectors.EVENT_READ)
        return {key.fileobj for key, _ in selector.select(_MOMENT)}


def _stop(worker: subprocess.Popen[bytes]) -> None:
    """Ask the worker to stop, and have it killed if it does not."""
    worker.terminate()
    signal.alarm(STOP_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
