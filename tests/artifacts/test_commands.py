"""The README's commands one after the other, and an expiring key: what a person does, with real processes."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloister import Client
from tests.artifacts.server import serving as store
from tests.broker.running import RunningBroker
from tests.running import FAQ, RunningWorker, cloister

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def run(*words: str) -> str:
    done = cloister(*words, timeout=120)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """`cloister broker serve` on a free port; its address."""
    broker = RunningBroker(directory).start()
    try:
        yield broker.url
    finally:
        broker.stop()


def sealed(directory: Path) -> tuple[Path, Path, str]:
    """A sealed model, the policy to release it under, and its resource, by the commands."""
    out, policy = directory / "sealed", directory / "release.toml"
    run("owner-key", "new", str(directory / "owner.pem"))
    told = run(
        *("seal", str(FAQ), "--owner", str(directory / "owner.pem"), "--out", str(out), "--demo"),
        *("--name", "faq"),
    )
    assert run("seal", "--verify", str(out), "--owner", str(directory / "owner.pem.pub"))
    measured = ("measure", "--model", str(out), "--name", "faq", "--engine", "threads=1")
    run(*measured, "--write-policy", str(policy))
    resource = re.search(r"resource\s+(\S+)", told)
    assert resource is not None
    return out, policy, resource[1]


def in_(**span: float) -> str:
    return (datetime.now(UTC) + timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_two_of_three_brokers_make_a_key(tmp_path: Path) -> None:
    out, policy, resource = sealed(tmp_path)
    limits = ("--policy", str(policy), "--expires", in_(hours=1), "--demo")
    key = ("--data-key", f"{out}.key")
    run(
        *("broker", "split", str(out), *key, *limits, "--threshold", "2", "--shares", "3"),
        *("--out", str(tmp_path / "shares")),
    )
    shares = sorted((tmp_path / "shares").iterdir())
    assert len(shares) == 3
    for number, share in enumerate(shares[:2]):
        data = ("--data", str(tmp_path / f"broker{number}"))
        run("broker", "init", *data)
        run("broker", "add-share", resource, str(share), *limits, "--releases", "5", *data)
    with serving(tmp_path / "broker0") as one, serving(tmp_path / "broker1") as two:
        options = ["--model", str(out), "--name", "faq", "--broker-plaintext", "--threshold", "2"]
        with pytest.raises(RuntimeError, match="1 shares of the 2"):
            RunningWorker(tmp_path, (*options, "--broker", one, "--broker", "http://127.0.0.1:9")).start()
        worker = RunningWorker(tmp_path, (*options, "--broker", one, "--broker", two)).start()
        try:
            with Client(worker.url, worker.policy) as client:
                assert client.ask("What is a measurement?", max_tokens=20).text
        finally:
            worker.stop()


def test_a_model_from_an_http_server_goes_when_its_key_expires(tmp_path: Path) -> None:
    out, policy, _ = sealed(tmp_path)
    data = ("--data", str(tmp_path / "broker"))
    run("broker", "init", *data)
    end = time.time() + 75
    run(
        *("broker", "add", str(out), "--data-key", f"{out}.key", "--policy", str(policy), "--demo"),
        *("--expires", in_(seconds=75), "--releases", "1", *data),
    )
    with serving(tmp_path / "broker") as broker, store(out) as http:
        options = ("--model", http.url, "--name", "faq", "--broker", broker, "--broker-plaintext")
        worker = RunningWorker(tmp_path, options).start()
        try:
            with Client(worker.url, worker.policy) as client:
                assert client.models() == ["faq"]
            deadline = end + 60
            while "erased" not in worker.output and time.time() < deadline:
                time.sleep(0.5)
            assert "the key of faq has expired" in worker.output and time.time() >= end - 2
            with Client(worker.url, worker.policy) as client:
                assert client.models() == [] and client.attest().claims["bundle"]["models"] == []
        finally:
            worker.stop()
    assert '"event": "release"' in run("broker", "audit", *data)
