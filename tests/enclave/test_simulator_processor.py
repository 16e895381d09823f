"""The processes: what was measured is what runs, and neither outlives the other."""

import hashlib
import json
import os
import py_compile
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from attestation import Bundle
from attestation.encoding import b64url_encode
from enclave.simulator import bootstrap
from enclave.simulator.gpu import device_code
from enclave.simulator.measure import Measurement, measure
from enclave.simulator.processor import LaunchedWorker, environment, launch
from enclave.simulator.sources import interpreter
from tests.enclave import probe
from tests.enclave.simulation import NONCE, copy_packages, failed, judge, keyset, policy, workload

CONFIGURATION = {"engine": {"dtype": "float32"}}
WAIT = 60


class Tree:
    """A copy of the packages with the probe as a worker."""

    def __init__(self, folder: Path) -> None:
        self.root = copy_packages(folder / "tree")
        self.report = folder / "report.json"
        shutil.copy(probe.__file__, self.root / "enclave" / "probe.py")

    def launch(self, *, stay: float = 0, devices: int = 1) -> LaunchedWorker:
        local = {
            "nonce": b64url_encode(NONCE),
            "keyset": b64url_encode(keyset(datetime.now(UTC))),
            "workload": b64url_encode(workload()),
            "report": str(self.report),
            "stay": stay,
        }
        return launch(CONFIGURATION, local=local, worker="enclave.probe", devices=devices, root=self.root)

    def measured(self) -> Measurement:
        return measure(CONFIGURATION, root=self.root)

    def facts(self) -> dict[str, Any]:
        """What the probe wrote, once it has."""
        until(self.report.exists)
        table = json.loads(self.report.read_text())
        assert isinstance(table, dict)
        return table


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether the process has ended, even if nobody has waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_worker_is_measured_started_and_believed(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "not for the worker")
    monkeypatch.setenv("PYTHONPATH", str(tree.root))
    handle = tree.launch(devices=2)
    assert handle.wait(WAIT) == 7
    facts = tree.facts()
    before = tree.measured()
    pinned = policy(measurement=before.digest, code=device_code(before), devices=2)
    bundle = Bundle.from_json(facts["bundle"].encode())
    verdict = judge(bundle, pinned, now=datetime.now(UTC))
    assert verdict.accepted and verdict.simulated, verdict.summary()
    assert facts["flags"] == [1, 1, 1]
    assert facts["directory"] == "/"  # nothing beside the launcher can be picked up
    assert set(facts["environment"]) <= {*environment(), "LC_CTYPE"}
    assert str(tree.root) not in facts["path"]
    assert (facts["aiohttp"], facts["client"], facts["tests"]) == (True, False, False)

    other = tree.root / "enclave" / "gateway" / "desk.py"
    other.write_text(other.read_text() + "# one line\n")
    changed = tree.measured()
    repinned = policy(measurement=changed.digest, code=device_code(changed), devices=2)
    assert failed(judge(bundle, repinned, now=datetime.now(UTC))) == {"snp.measurement"}


def test_terminating_the_processor_stops_the_worker(tree: Tree) -> None:
    handle = tree.launch(stay=WAIT)
    pid = tree.facts()["pid"]
    handle.terminate()
    assert handle.wait(WAIT) == 128 + 15
    assert gone(pid)


def test_a_terminals_ctrl_c_is_left_to_the_launcher(tree: Tree) -> None:
    handle = tree.launch(stay=WAIT)
    assert os.getpgid(handle.process.pid) not in (os.getpgid(0), 0)
    handle.terminate()
    handle.wait(WAIT)


def test_a_worker_dies_with_its_processor(tree: Tree) -> None:
    handle = tree.launch(stay=WAIT)
    pid = tree.facts()["pid"]
    handle.kill()
    handle.wait(WAIT)
    until(lambda: gone(pid))


def test_a_processor_stops_when_its_launcher_is_gone(tree: Tree) -> None:
    handle = tree.launch(stay=WAIT)
    pid = tree.facts()["pid"]
    assert handle.process.stdin is not None
    handle.process.stdin.close()
    assert handle.wait(WAIT) == 128 + 15
    assert gone(pid)


def test_what_cannot_be_measured_is_not_started(tree: Tree, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(tree.root / "cloister")
    assert tree.launch().wait(WAIT) == 1
    assert "cloister is missing" in capfd.readouterr().err
    assert not tree.report.exists()


def test_names_and_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="port"):
        launch({"port": 1}, local={"port": 2})
    with pytest.raises(ValueError, match="devices"):
        launch({}, devices=0)


class Bootstrapped:
    """The bootstrap alone, with a package of one module under its care."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        (folder / "enclave").mkdir()
        (folder / "enclave" / "__init__.py").write_text("")
        self.module = folder / "enclave" / "target.py"
        self.module.write_text("def main(configuration, end):\n    print('honest')\n    return 0\n")
        self.files = {
            f"enclave/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (folder / "enclave").iterdir()
        }

    def run(self, *, worker: str = "enclave.target", parent: int | None = None) -> tuple[int, str]:
        left, right = socket.socketpair()
        orders = {
            "root": str(self.root),
            "files": self.files,
            "names": ["enclave", "client"],
            "path": [str(Path(os.__file__).parent)],
            "prefix": sys.prefix,
            "parent": os.getpid() if parent is None else parent,
            "socket": left.fileno(),
            "worker": worker,
            "configuration": {},
        }
        try:
            done = subprocess.run(
                [interpreter(), "-I", "-S", "-B", bootstrap.__file__],
                input=json.dumps(orders).encode(),
                capture_output=True,
                pass_fds=[left.fileno()],
                timeout=WAIT,
                check=False,
            )
        finally:
            left.close()
            right.close()
        return done.returncode, (done.stdout + done.stderr).decode()


@pytest.fixture
def bootstrapped(tmp_path: Path) -> Bootstrapped:
    return Bootstrapped(tmp_path)


def test_bootstrap_refuses_a_file_that_changed_after_it_was_measured(bootstrapped: Bootstrapped) -> None:
    bootstrapped.module.write_text("def main(configuration, end):\n    print('altered')\n    return 0\n")
    status, output = bootstrapped.run()
    assert status != 0 and "was changed since it was measured" in output and "altered\n" not in output


def test_bootstrap_runs_the_source_and_never_its_bytecode(bootstrapped: Bootstrapped) -> None:
    honest = bootstrapped.module.read_text()
    bootstrapped.module.write_text(honest.replace("honest", "broken"))
    times = (1_700_000_000, 1_700_000_000)
    os.utime(bootstrapped.module, times)
    py_compile.compile(str(bootstrapped.module), doraise=True)
    bootstrapped.module.write_text(honest)
    os.utime(bootstrapped.module, times)  # the stale bytecode's header now fits the source
    assert bootstrapped.run() == (0, "honest\n")


def test_bootstrap_loads_no_module_of_ours_that_was_not_measured(bootstrapped: Bootstrapped) -> None:
    (bootstrapped.root / "enclave" / "late.py").write_text("def main(configuration, end):\n    return 0\n")
    status, output = bootstrapped.run(worker="enclave.late")
    assert status != 0 and "enclave.late was not measured" in output


def test_bootstrap_ends_if_its_processor_has(bootstrapped: Bootstrapped) -> None:
    status, output = bootstrapped.run(parent=1)
    assert status != 0 and "processor has ended" in output
