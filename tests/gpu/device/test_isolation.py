"""A process that gives up network and user: it has neither afterwards, and still gets secret memory."""

import json
import os
import subprocess
import sys

import pytest

from tests.running import ROOT

CHILD = """
import json, os, resource, socket, sys
from enclave.gpu.device.isolation import FIRST_USER, leave_network, leave_user
from enclave.memory import SecretMemory
network = leave_network()
before = leave_user(FIRST_USER)
sys.path[:] = []                     # what this user could not read, a real device could not import
after = leave_user(FIRST_USER) if os.geteuid() == 0 else before
memory = SecretMemory(1 << 20)
print(json.dumps({
    "network": network, "user": after, "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
    "interfaces": [name for _, name in socket.if_nameindex()], "memory": str(memory.kind),
}))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_without_a_network() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    found = json.loads(done.stdout)
    assert found["network"] == "none" and found["interfaces"] == ["lo"]
    assert found["user"] == "its own (61184)" and found["ids"] == [61184] * 6
    assert found["memory"] in ("memfd_secret", "locked")


def test_without_root_it_says_so() -> None:
    child = (
        "import os\nfrom enclave.gpu.device.isolation import leave_user\n"
        "os.geteuid() or os.seteuid(65534)\nprint(leave_user(61184))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", child], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert "only root can change it" in done.stdout
