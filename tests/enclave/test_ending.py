"""What a worker's exit status says, and signals while it loads."""

import subprocess
import sys
from pathlib import Path

import pytest

from attestation import ExitCode
from enclave.ending import exit_status
from enclave.files import FilesError
from enclave.release import BrokerLied, BrokerRefused, BrokerUnreachable, TooFewShares
from sealing.errors import ConsentRefused
from tests.running import ROOT


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BrokerUnreachable("no route", broker="b"), ExitCode.UNEVALUABLE),
        (TooFewShares("1 of 2", undecided=True), ExitCode.UNEVALUABLE),
        (TooFewShares("1 of 2"), ExitCode.REJECTED),
        (BrokerRefused("no", broker="b", status=403), ExitCode.REJECTED),
        (BrokerLied("another's", broker="b"), ExitCode.REJECTED),
        (FilesError("altered"), ExitCode.REJECTED),
        (ConsentRefused("not signed"), ExitCode.REJECTED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_was_not_decided_is_told_from_a_no(error: Exception, status: int) -> None:
    assert exit_status(error) == status


SCRIPT = """
import os, signal, sys, time
from enclave.ending import ended_quietly

def erase():
    os.write(1, b"erased")
    raise RuntimeError("even then")

with ended_quietly(erase):
    if sys.argv[1] == "inside":
        os.kill(os.getpid(), int(sys.argv[2]))
        time.sleep(20)
try:
    os.kill(os.getpid(), int(sys.argv[2]))
    time.sleep(20)
except KeyboardInterrupt:
    os.write(1, b"in order")
"""


@pytest.mark.parametrize("number", [2, 15])
@pytest.mark.parametrize(("place", "status", "said"), [("inside", 128, "erased"), ("after", 0, "in order")])
def test_a_signal_while_loading_erases_the_keys_and_says_nothing(
    place: str, status: int, said: str, number: int
) -> None:
    command = [sys.executable, "-c", SCRIPT, place, str(number)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status + number if status else 0, said, "")


PLACED = """
import os, signal, time
from enclave.ending import ended_quietly
from enclave.engine.vllm.places import MemoryPlace
from enclave.files import DirectoryFiles
from enclave.hardware import erase
from enclave.identity import Identity
from enclave.memory import Kind
from tests.running import FAQ

with ended_quietly(lambda: erase(Identity(kinds=tuple(Kind)))):
    place = MemoryPlace()
    place.put(DirectoryFiles(FAQ), ["config.json"])
    print(place.path, os.listdir(place.path), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)
"""


def test_a_signal_while_loading_leaves_none_of_the_files_that_vllm_was_given() -> None:
    command = [sys.executable, "-c", PLACED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    place, listed = done.stdout.strip().split(" ", 1)
    assert (done.returncode, listed, done.stderr) == (128 + 15, "['config.json']", "")
    assert not Path(place).exists()
