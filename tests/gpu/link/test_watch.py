"""The host's view: every record, with its size, kind and entropy, and nothing of what is in it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from enclave.gpu.bus import Bus, NoBus, Side
from enclave.gpu.bus.geometry import Class
from enclave.gpu.link.watch import Recorder, Watcher, below, entropy, find, row, the_bus, windows
from tests.gpu.pairs import SMALL, Beside, two_links

CLI = [sys.executable, "-m", "cloister", "bus", "watch"]


def test_a_watcher_sees_sizes_and_kinds_of_everything() -> None:
    with two_links() as (bus, worker, device):
        watcher = Watcher(bus.memory)
        worker.send(b"twenty bytes of ids.")
        worker.send_spdm(b"\0" * 40)
        (message, spdm) = watcher.look()
        assert (message.kind, message.length, message.sender, message.ring) == (
            "message",
            20,
            Side.WORKER,
            Class.CONTROL,
        )
        assert (spdm.kind, spdm.length, spdm.entropy, spdm.start) == ("spdm", 40, 0.0, bytes(24))
        assert message.entropy > 4.0 and len(message.start) == 24
        assert watcher.look() == [] and watcher.missed == 0
        for _ in range(2):
            device.receive()
        receiving = Beside(lambda: device.receive_bulk(memoryview(bytearray(9000))))
        worker.send_bulk([bytes(9000)])
        receiving.result()
        assert {one.kind for one in watcher.look()} <= {"chunk", "end"}
        assert watcher.missed > 0  # nine chunks in two slots


def test_a_recorder_counts_while_others_work() -> None:
    with two_links() as (bus, worker, device), Recorder(Watcher(bus.memory), keep=5) as recorder:
        for _ in range(10):
            worker.send(b"x")
            device.receive()
            time.sleep(0.005)
        time.sleep(0.05)
        assert recorder.total[Side.WORKER, Class.CONTROL, "message"] == 10
        assert len(recorder.seen) == 5 and "worker -> device" in row(recorder.seen[0], 0.0)


def test_whoever_holds_the_bus_shows_it() -> None:
    with Bus.create(SMALL) as bus:
        inode = os.fstat(bus.descriptors.memory).st_ino
        (found,) = [each for each in find(os.getpid()) if each.inode == inode]
        assert found.pid == os.getpid()
        assert Watcher.of(found.path).geometry == SMALL


def test_the_bus_of_a_launcher_is_found_below_it() -> None:
    holder = "import os, sys; os.memfd_create('cloister-bus'); print(flush=True); sys.stdin.read()"
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holder!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", launcher], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline()
        (found,) = below(process.pid)
        assert the_bus(process.pid) == found.path and found.pid != process.pid


def test_no_bus_and_what_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoBus, match="4194304 holds no bus"):
        the_bus(1 << 22)  # beyond the largest process number
    plain = tmp_path / "file"
    plain.write_bytes(bytes(9000))
    for path in (plain, tmp_path / "absent"):
        with pytest.raises(NoBus):
            Watcher.of(path)


def test_the_command_watches_a_running_bus() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.gpu.chatter"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as talking:
        assert talking.stdout is not None and talking.stdout.readline()
        process = subprocess.Popen(
            [*CLI, "--pid", str(talking.pid), "--seconds", "90"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()
    assert "worker -> device  control  message" in line and "entropy" in line


def test_the_command_says_what_to_do_when_there_is_no_bus() -> None:
    done = subprocess.run([*CLI, "--pid", str(1 << 22)], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "next:" in done.stderr and "Traceback" not in done.stderr


def test_entropy_and_windows() -> None:
    assert entropy(b"") == 0.0 == entropy(b"aaaa") and entropy(bytes(range(256))) == 8.0
    assert windows(b"abcdefghij", [b"xxbcdefghiyy"]) and not windows(b"abcdefghij", [b"xxbcdefghyy"])
