"""What cannot be served is said at once, before anything is measured or started."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from cloister.cli.serving import Settings, serve
from enclave.configuration import ConfigurationError
from enclave.tee.tsm import REPORTS
from tests.running import ROOT, cloister, session_of

PLAIN = Settings(model=None, name=None, adapters=[], engine=[], issuers=[])


def test_a_port_in_use_is_refused_with_a_way_out() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigurationError, match="in use; give another --port"),
    ):
        serve(PLAIN, "127.0.0.1", taken.getsockname()[1], None)


def test_a_policy_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="absent is not a directory"):
        serve(PLAIN, "127.0.0.1", 0, tmp_path / "absent" / "worker.toml")


def test_places_that_are_not_there_are_named(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    for changes, message in (
        ({"consent": absent}, "--consent .*absent: no such file"),
        ({"model": str(absent)}, "absent is not a model directory: there is none"),
        ({"model": str(tmp_path)}, "it has no config.json"),
        ({"issuers": [absent]}, "--issuer .*absent: No such file"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            dataclasses.replace(PLAIN, **changes).configuration()


@pytest.mark.parametrize(
    ("said", "codes"),
    [
        ("SIMULATED: ", {130}),
        ("raw keys are in ", {130}),
        ("keeps the weights in ", {130, 0}),  # by then it may have begun to serve
    ],
)
def test_ctrl_c_while_a_worker_starts_is_quiet_and_leaves_nothing_behind(said: str, codes: set[int]) -> None:
    command = [sys.executable, "-m", "cloister", "serve", "--port", "0", "--engine", "threads=1"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    with process, process.stderr:
        before = ""
        while said not in before:
            before += (line := process.stderr.readline())
            assert line, before
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()  # to its end: nobody writes there any more
    assert process.returncode in codes
    assert "Traceback" not in before + rest and "KeyboardInterrupt" not in rest
    assert not [
        path for path in Path("/proc").iterdir() if path.name.isdigit() and session_of(path) == process.pid
    ]


def test_vllm_is_served_only_where_it_is_installed() -> None:
    settings = dataclasses.replace(PLAIN, engine=["vllm"], tee="tdx")
    assert settings.configuration().engine.kind == "vllm"
    if find_spec("vllm") is None:
        with pytest.raises(ConfigurationError, match=r"not installed.*docs/vllm\.md"):
            serve(settings, "127.0.0.1", 0, None)


def test_the_kind_of_an_engine_is_measured_and_told() -> None:
    for words, kind in (([], "embedded"), (["embedded"], "embedded"), (["kind=vllm"], "vllm")):
        made = dataclasses.replace(PLAIN, engine=words, tee="sev-snp").configuration()
        assert made.measured()["engine"]["kind"] == made.engine_options()["kind"] == kind
    with pytest.raises(ConfigurationError, match="kind must be"):
        dataclasses.replace(PLAIN, engine=["kind=other"]).configuration()
    with pytest.raises(ConfigurationError, match="goes with --tee"):
        dataclasses.replace(PLAIN, engine=["vllm"]).configuration()


@pytest.mark.parametrize(("word", "said"), [("snp", "--tee sev-snp"), ("sev-snp", "--tee sev-snp")])
@pytest.mark.skipif(REPORTS.exists(), reason="this machine is a guest of a TEE")
def test_serve_takes_the_word_of_policies_for_a_tee_too(word: str, said: str) -> None:
    done = cloister("serve", "--port", "0", "--tee", word)
    assert done.returncode == 10 and said in done.stderr
    other = cloister("serve", "--port", "0", "--tee", "sev")
    assert other.returncode == 2 and "not one of sev-snp, tdx" in other.stderr
