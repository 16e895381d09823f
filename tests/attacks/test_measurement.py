"""THREAT_MODEL rows M1 and M2: the operator changes what runs, or what it runs on."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from attestation import Policy, Rejected
from attestation.snp import GuestFlag, GuestPolicy, Tcb
from client.sdk import AsyncClient
from enclave.simulator.chip import GUEST_POLICY, TCB, Platform
from enclave.simulator.gpu import Mode
from enclave.simulator.measure import measure
from enclave.simulator.sources import PACKAGES
from tests.enclave.simulation import Machine, failed, gpu, judge
from tests.running import ROOT, RunningWorker

MEASURED = "snp.measurement"


async def test_m1_a_worker_with_another_engine_option_is_refused(
    worker: RunningWorker, tmp_path: Path
) -> None:
    other = RunningWorker(tmp_path, ("--engine", "max_rows=32")).start()
    try:
        async with AsyncClient(other.url, worker.policy) as client:
            with pytest.raises(Rejected) as caught:
                await client.ask("my secret")
        assert {str(r.check) for r in caught.value.verdict.blocking()} == {MEASURED}
    finally:
        other.stop()


@pytest.mark.parametrize("name", ["enclave/worker.py", "sealing/hpke.py", "attestation/binding.py"])
def test_m1_one_changed_line_changes_what_is_measured(tmp_path: Path, name: str) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    before = measure({}, root=tmp_path)
    path = tmp_path / name
    path.write_text(path.read_text() + "\n# one line more\n")
    after = measure({}, root=tmp_path)
    assert after.digest != before.digest
    assert before.differences(after) == [f"packages/{name}"]


def test_m1_a_file_changed_after_it_was_measured_is_not_loaded(tmp_path: Path) -> None:
    """The bootstrap compares each file again: measured is what is imported."""
    (tmp_path / "enclave").mkdir()
    (tmp_path / "enclave" / "__init__.py").write_text("")
    (tmp_path / "enclave" / "worker.py").write_text("raise SystemExit('stolen')\n")
    orders = {
        "root": str(tmp_path),
        "files": {"enclave/__init__.py": "00" * 32, "enclave/worker.py": "00" * 32},
        "names": list(PACKAGES),
        "path": sys.path,
        "prefix": sys.prefix,
        "parent": os.getpid(),
        "socket": 0,
        "worker": "enclave.worker",
        "configuration": {},
    }
    script = ROOT / "enclave" / "simulator" / "bootstrap.py"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", str(script)],
        input=json.dumps(orders),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert "stolen" not in done.stderr


def debug(policy: GuestPolicy) -> GuestPolicy:
    return dataclasses.replace(policy, flags=policy.flags | GuestFlag.DEBUG)


MACHINES: dict[str, tuple[Callable[[], Machine], str]] = {
    "a debug guest": (lambda: Machine(Platform(guest_policy=debug(GUEST_POLICY))), "snp.guest-debug"),
    "old firmware": (
        lambda: Machine(Platform(tcb=old(TCB), committed_tcb=old(TCB), certified_tcb=old(TCB))),
        "snp.tcb-reported",
    ),
    "a debug GPU": (lambda: Machine(gpus=[gpu(mode=Mode.DEBUG)]), "nvidia.tcb-flags"),
    "other GPU code": (lambda: Machine(gpus=[gpu(code=b"\xee" * 48)]), "nvidia.measurements"),
    "another measurement": (lambda: Machine(measurement=bytes(48)), MEASURED),
}


def old(tcb: Tcb) -> Tcb:
    return dataclasses.replace(tcb, snp=tcb.snp - 1)


def test_m2_the_same_machine_unharmed_is_accepted() -> None:
    assert judge(Machine().bundle()).accepted


@pytest.mark.parametrize("name", MACHINES)
def test_m2_a_weakened_machine_is_refused(name: str) -> None:
    make, check = MACHINES[name]
    assert check in failed(judge(make().bundle()))


def test_m2_a_stripped_policy_does_not_parse(worker: RunningWorker) -> None:
    """Leaving keys out of a policy never widens it: it is refused."""
    text = worker.policy_file.read_text()
    for key in ("measurements", "products", "chips", "count", "software", "models", "max_verdict_age"):
        lines = [line for line in text.splitlines() if not line.startswith(f"{key} =")]
        with pytest.raises(Exception, match=key):
            Policy.from_toml("\n".join(lines))
