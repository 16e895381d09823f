"""The measurement registers cover what the device's process loads."""

import json
import subprocess
import sys
from pathlib import Path

from enclave.simulator.gpu import _FIRMWARE, Mode, measurement_digest
from tests.enclave.simulation import CODE, gpu
from tests.running import ROOT

LOADED = """
import json, sys
import enclave.simulator.bootstrap, enclave.gpu.device.process, enclave.engine.embedded
files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
print(json.dumps([file for file in files if file]))
"""


def test_every_module_that_the_device_loads_is_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True, timeout=100
    )
    loaded = {Path(file) for file in json.loads(done.stdout)}
    own = {
        file.relative_to(ROOT) for file in loaded if file.is_relative_to(ROOT) and ".venv" not in file.parts
    }
    assert Path("enclave/gpu/device/process.py") in own
    outside = [str(file) for file in own if not f"packages/{file}".startswith(_FIRMWARE)]
    assert not outside


def test_the_registers_tell_the_modes_apart() -> None:
    records = {mode: b"".join(b.to_bytes() for b in gpu(mode=mode).measurements) for mode in Mode}
    assert len(set(records.values())) == len(Mode)
    assert len(gpu().measurements) == 64 and len(measurement_digest(CODE)) == 48
