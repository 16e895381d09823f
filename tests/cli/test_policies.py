"""`cloister policy` as people use it."""

from pathlib import Path

from tests.running import RunningWorker, cloister


def test_new_prints_a_file_that_check_refuses_with_everything_that_is_missing(tmp_path: Path) -> None:
    made = cloister("policy", "new", "--tee", "snp", "--tee", "nvidia-gpu", "--strict")
    assert made.returncode == 0, made.stderr
    file = tmp_path / "policy.toml"
    file.write_text(made.stdout)
    checked = cloister("policy", "check", str(file))
    assert checked.returncode == 2
    assert "snp.measurements: FILL-IN" in checked.stderr
    assert "nvidia_gpu.devices: FILL-IN" in checked.stderr
    assert "Traceback" not in checked.stderr


def test_new_refuses_what_it_does_not_know() -> None:
    made = cloister("policy", "new", "--tee", "sev")
    assert (made.returncode, made.stdout) == (2, "")
    assert "sev-snp" in made.stderr


def test_explain_says_what_a_workers_policy_accepts_and_leaves_open(
    worker: RunningWorker, tmp_path: Path
) -> None:
    assert "usable, SHA-256 " in cloister("policy", "check", str(worker.policy_file)).stdout
    plain = cloister("policy", "explain", str(worker.policy_file))
    assert plain.returncode == 0, plain.stderr
    assert "SIMULATOR" in plain.stdout and "[nvidia_gpu]" in plain.stdout
    assert "weakened      time by the host's clock" in plain.stdout
    assert "not required  chips: any genuine one" in plain.stdout
    weaker = tmp_path / "weaker.toml"
    weaker.write_text(worker.policy_file.read_text().replace("[snp]\n", "[snp]\nallow_debug = true\n"))
    assert "DEBUG: the host may read" in cloister("policy", "explain", str(weaker)).stdout


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    for command in ("check", "explain"):
        done = cloister("policy", command, str(tmp_path / "none.toml"))
        assert done.returncode == 2 and "none.toml" in done.stderr
