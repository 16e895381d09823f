"""The command as people use it: exit codes, what is printed, and that errors say what to do next."""

import json
import time
from pathlib import Path

import pytest

from tests.running import RunningWorker, cloister


def test_verify_prints_every_check_and_says_simulated_last(worker: RunningWorker) -> None:
    done = cloister("verify", worker.url, "--policy", str(worker.policy_file))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "SIMULATED" in done.stdout.strip().splitlines()[-1]
    assert "bundle.nonce" in done.stdout
    assert "cpu0 snp." in done.stdout
    assert "FAIL" not in done.stdout


def test_verify_json_has_the_same_checks(worker: RunningWorker) -> None:
    done = cloister("verify", worker.url, "--policy", str(worker.policy_file), "--json")
    verdict = json.loads(done.stdout)
    assert (verdict["verdict"], verdict["simulated"], done.returncode) == ("SIMULATED", True, 3)
    assert {row["outcome"] for row in verdict["results"] if row["required"]} == {"pass"}
    assert {row["subject"] for row in verdict["results"]} == {"bundle", "cpu0", "devices", "gpu0"}


def test_ask_streams_an_answer_to_stdout_alone(worker: RunningWorker) -> None:
    done = cloister("ask", "What is remote attestation?", "-p", str(worker.policy_file), "-u", worker.url)
    assert done.returncode == 3
    assert "attestation" in done.stdout.lower()
    assert "SIMULATED" in done.stderr
    assert "SIMULATED" not in done.stdout


def test_a_policy_that_pins_something_else_rejects_with_the_check_and_the_remedy(
    worker: RunningWorker, tmp_path: Path
) -> None:
    text = worker.policy_file.read_text()
    start = text.index("measurements = [") + len("measurements = [") + 1
    other = tmp_path / "other.toml"
    other.write_text(text[:start] + ("00" if text[start : start + 2] != "00" else "11") + text[start + 2 :])
    done = cloister("verify", worker.url, "--policy", str(other))
    assert done.returncode == 10
    assert "REJECTED" in done.stdout.strip().splitlines()[-1]
    assert "what to do" in done.stdout
    asked = cloister("ask", "hello", "-p", str(other), "-u", worker.url)
    assert (asked.returncode, asked.stdout) == (10, "")
    assert "snp.measurement" in asked.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "version is missing"),
        ("version = 1\nroots = ['amd', 'simulator']\nmax_verdict_age = 60", "simulator"),
        ("version = 1\nroots = ['amd']\nmax_verdict_age = 60", "no TEE section"),
        ("nonsense", "not TOML"),
    ],
)
def test_a_bad_policy_is_a_usage_error(tmp_path: Path, text: str, words: str) -> None:
    policy = tmp_path / "p.toml"
    policy.write_text(text)
    done = cloister("verify", "http://127.0.0.1:9", "--policy", str(policy))
    assert done.returncode == 2
    assert words in done.stderr
    assert "next:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_policy_an_unreachable_worker_and_malformed_evidence(
    worker: RunningWorker, tmp_path: Path
) -> None:
    policy = str(worker.policy_file)
    missing = cloister("verify", worker.url, "--policy", str(tmp_path / "none.toml"))
    assert missing.returncode == 2
    unreachable = cloister("ask", "x", "-p", policy, "-u", "http://127.0.0.1:9")
    assert (unreachable.returncode, "cloister serve" in unreachable.stderr) == (20, True)
    garbage = tmp_path / "evidence.json"
    garbage.write_bytes(b"\x00garbage")
    malformed = cloister("verify", str(garbage), "--policy", policy)
    assert malformed.returncode == 30
    for done in (missing, unreachable, malformed):
        assert "Traceback" not in done.stderr


def test_a_simulated_worker_elsewhere_is_refused_before_anything_is_sent(worker: RunningWorker) -> None:
    done = cloister("ask", "x", "-p", str(worker.policy_file), "-u", "http://192.0.2.1:8420", timeout=20)
    assert done.returncode == 2
    assert "allow_remote_simulation" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "other"), "not loaded; loaded: faq"),
        (("--max-tokens", "1", "attestation " * 2000), "shorten the prompt"),
    ],
)
def test_what_the_api_refuses_is_said_with_a_next_step(
    worker: RunningWorker, arguments: tuple[str, ...], words: str
) -> None:
    *options, question = arguments if len(arguments) % 2 else (*arguments, "hello")
    done = cloister("ask", question, *options, "-p", str(worker.policy_file), "-u", worker.url)
    assert done.returncode == 2
    assert words in done.stderr
    assert "next:" in done.stderr


def test_measure_prints_what_serve_pinned_and_changes_with_an_engine_option(
    worker: RunningWorker, tmp_path: Path
) -> None:
    pinned = cloister("measure", "--engine", "threads=1", "--write-policy", str(tmp_path / "p.toml"))
    assert pinned.returncode == 0, pinned.stderr
    assert (tmp_path / "p.toml").read_text() == worker.policy_file.read_text()
    other = cloister("measure", "--engine", "threads=1", "--engine", "max_rows=32")
    assert other.stdout.splitlines()[0] != pinned.stdout.splitlines()[0]


def test_unknown_options_say_what_is_known() -> None:
    done = cloister("serve", "--engine", "fast=yes")
    assert done.returncode == 2
    assert "max_rows" in done.stderr


def test_help_comes_without_the_slow_imports() -> None:
    cloister("--version")
    start = time.perf_counter()
    done = cloister("--help")
    assert done.returncode == 0
    # A hang or an eager import of torch or transformers (seconds) shows; benchmarks hold the finer figure.
    assert time.perf_counter() - start < 5
