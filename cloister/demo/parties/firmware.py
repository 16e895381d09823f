"""A machine whose firmware the operator rolled back: the same processor, the same measurement, an older TCB.

The chip tells the truth about its firmware: its key is derived from the TCB, and the report states it.
"""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import Any

from enclave.simulator import processor
from enclave.simulator.chip import TCB, Platform, SnpProcessor
from enclave.simulator.processor import LaunchedWorker

from .machines import OLDER

GENUINE = "enclave.simulator.processor"


def launch(*configuration: Any, **settings: Any) -> LaunchedWorker:
    """As `enclave.simulator.processor.launch`, but what is started is the processor of this module."""
    start = subprocess.Popen

    def starting(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        return start([__name__ if word == GENUINE else word for word in command], **options)

    vars(subprocess)["Popen"] = starting
    try:
        return processor.launch(*configuration, **settings)
    finally:
        vars(subprocess)["Popen"] = start


if __name__ == "__main__":
    old = Platform(tcb=replace(TCB, **OLDER))
    vars(processor)["SnpProcessor"] = partial(SnpProcessor, platform=old)
    sys.exit(processor.main())
