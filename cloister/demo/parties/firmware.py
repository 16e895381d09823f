"""A machine whose firmware the operator rolled back: the same processor, the same measurement, an older TCB.

The chip tells the truth about its firmware: its key is derived from the TCB, and the report states it.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from enclave.simulator import processor
from enclave.simulator.chip import TCB, Platform, SnpProcessor
from enclave.simulator.processor import LaunchedWorker, environment
from enclave.simulator.sources import ROOT

from .machines import OLDER


def launch(configuration: Mapping[str, Any], *, local: Mapping[str, Any], **_: Any) -> LaunchedWorker:
    """As `enclave.simulator.processor.launch`, on the machine with old firmware."""
    settings = {
        "configuration": dict(configuration),
        "local": dict(local),
        "worker": processor.WORKER,
        "devices": 1,
        "root": str(ROOT),
    }
    command = [sys.executable, "-E", "-s", "-B", "-m", __name__]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE)
    if process.stdin is None:
        raise RuntimeError("started without a pipe")
    process.stdin.write(json.dumps(settings).encode() + b"\n")
    process.stdin.flush()
    return LaunchedWorker(process)


if __name__ == "__main__":
    old = Platform(tcb=replace(TCB, **OLDER))
    vars(processor)["SnpProcessor"] = partial(SnpProcessor, platform=old)
    sys.exit(processor.main())
