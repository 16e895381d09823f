"""`cloister serve --tee`: a worker over captured evidence answers; what does not go together is refused."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from attestation import Bundle, Collateral
from attestation.encoding import b64url_encode
from cloister.cli.app import app
from enclave import hardware
from enclave.configuration import Configuration, ConfigurationError
from enclave.engine.interface import EngineOptions
from enclave.hardware import GpuJudge
from enclave.identity import Identity
from enclave.tee.interface import EvidenceUnavailable
from enclave.tee.tsm import REPORTS, TsmCpu
from tests.hardware.kernel import KERNELS, snp
from tests.running import FAQ, ROOT, cloister

NONCE = bytes(range(32))
GPU_POLICY = (
    'version = 1\nroots = ["nvidia"]\nmax_verdict_age = 3600\n[nvidia_gpu]\ncount = 1\nchips = ["GH100"]\n'
    "allow_any_driver = true\nallow_any_vbios = true\nallow_any_measurements = true\n"
    "allow_missing_fwid = true\nallow_missing_ocsp = true\n"
)


def configuration(**more: Any) -> Configuration:
    given: dict[str, Any] = {"tee": "sev-snp", "engine": EngineOptions(threads=1), "port": 0}
    return Configuration(model=FAQ, name="faq", **(given | more))


def test_the_settings_reach_the_worker_whole() -> None:
    made = configuration(confidential_gpu=True)
    assert made.engine.device == "cuda"
    assert "insecure_gpu" not in made.engine_options()
    assert Configuration.from_tables(made.measured() | made.local()) == made
    judge = GpuJudge(policy=GPU_POLICY, collateral=Collateral())
    assert GpuJudge.from_json(json.loads(json.dumps(judge.to_json()))) == judge


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"insecure_gpu": True}, "belong to the simulator"),
        ({"gpu_toll": True}, "belong to the simulator"),
        ({"tee": None, "confidential_gpu": True}, "needs a real CPU TEE"),
        ({"tee": "sgx"}, "not one of sev-snp, tdx"),
        ({"engine": EngineOptions(device="cuda")}, "--tee with --gpu nvidia"),
    ],
)
def test_simulation_and_hardware_do_not_mix(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        configuration(**settings)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tee", "sev-snp", "--insecure-gpu"), "belong to the simulator"),
        (("--tee", "tdx", "--gpu-toll"), "belong to the simulator"),
        (("--tee", "tdx", "--write-policy", "{tmp}/p.toml"), "cloister policy new"),
        (("--tee", "tdx", "--gpu", "nvidia"), "--gpu-policy FILE"),
        (("--tee", "tdx", "--gpu-policy", "{tmp}/gpu.toml"), "go with --gpu nvidia"),
        (("--gpu", "nvidia"), "needs a real CPU TEE"),
        (("--gpu-policy", "{tmp}/gpu.toml"), "--tee with --gpu nvidia"),
        (
            ("--tee", "tdx", "--gpu", "nvidia", "--gpu-policy", "{tmp}/simulated.toml"),
            "rather than the simulator",
        ),
    ],
)
def test_the_command_refuses_what_does_not_go_together(
    tmp_path: Path, options: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def become(*_: object) -> None:
        raise AssertionError("this became a worker")

    monkeypatch.setattr("cloister.cli.hardware.become", become)
    (tmp_path / "gpu.toml").write_text(GPU_POLICY)
    (tmp_path / "simulated.toml").write_text(GPU_POLICY.replace('"nvidia"', '"simulator"'))
    words = [each.format(tmp=tmp_path) for each in options]
    done = CliRunner().invoke(app, ["serve", "--port", "0", *words])
    assert isinstance(done.exception, ConfigurationError) and said in str(done.exception)
    assert not (tmp_path / "p.toml").exists()


@pytest.mark.skipif(REPORTS.exists(), reason="this machine is a guest of a TEE")
def test_where_there_is_no_tee_nothing_starts_and_the_remedy_is_named() -> None:
    done = cloister("serve", "--port", "0", "--tee", "sev-snp")
    assert done.returncode == 10
    assert "not started: " in done.stderr and "modprobe sev-guest" in done.stderr
    assert "SIMULATED:" not in done.stderr and "listening" not in done.stdout


def test_a_tee_that_does_not_sign_is_found_out_before_anything_is_loaded(tmp_path: Path) -> None:
    kernel = snp()
    cpu = TsmCpu("sev-snp", reports=tmp_path, files=kernel)
    kernel.report = b""
    missing, identity = replace(configuration(), model=tmp_path / "none"), Identity()
    try:
        with pytest.raises(EvidenceUnavailable, match="1184 bytes"):
            hardware.started(missing, identity, cpu, ())
    finally:
        identity.erase()


@contextlib.contextmanager
def running(tree: Path, tee: str, stopped_by: signal.Signals) -> Iterator[str]:
    """The address of a worker in a process of its own, over a machine that answers with captured evidence."""
    made = configuration(tee=tee)
    table = made.measured() | made.local() | {"gpu_judge": None}
    command = [
        sys.executable,
        "-u",
        "-c",
        "from tests.hardware.kernel import worker; worker()",
        str(tree),
        tee,
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(table))
        process.stdin.close()
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line
        yield line.split()[2]
        process.send_signal(stopped_by)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(20)
        process.stdout.close()


@pytest.mark.parametrize(("tee", "stopped_by"), [("sev-snp", signal.SIGINT), ("tdx", signal.SIGTERM)])
def test_a_worker_over_captured_evidence_starts_and_answers_for_itself(
    tmp_path: Path, tee: str, stopped_by: signal.Signals
) -> None:
    with running(tmp_path, tee, stopped_by) as url:
        answer = httpx2.post(f"{url}/attestation", json={"nonce": b64url_encode(NONCE)}, timeout=20)
        assert answer.status_code == 200
        bundle = Bundle.from_json(answer.content)
    assert bundle.nonce == NONCE and bundle.cpu.tee == tee and bundle.cpu.report == KERNELS[tee]().report
    assert len(bundle.cpu.endorsements) == (3 if tee == "sev-snp" else 0)
    assert bundle.devices == () and not bundle.collateral.items
    assert b'"faq"' in bundle.workload and b"gpu_session" not in bundle.workload
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_before_anything_is_loaded_is_quiet() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", hardware.MODULE],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    status = Path(f"/proc/{process.pid}/status")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "")


def test_ctrl_c_while_it_loads_is_quiet(tmp_path: Path) -> None:
    table = configuration().measured() | configuration().local() | {"gpu_judge": None}
    command = [
        sys.executable,
        "-c",
        "from tests.hardware.kernel import worker; worker()",
        str(tmp_path),
        "sev-snp",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stderr is not None
    with process, process.stderr:
        process.stdin.write(json.dumps(table))
        process.stdin.close()
        said = ""
        while "evidence comes from" not in said:
            said += (line := process.stderr.readline())
            assert line, said
        process.send_signal(signal.SIGINT)
        said += process.stderr.read()
    assert process.returncode == 130 and "Traceback" not in said
