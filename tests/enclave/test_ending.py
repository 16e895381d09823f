"""What a worker's exit status says, and signals while it loads."""

import subprocess
import sys

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
