"""A worker for tests: copied into a tree of packages, then measured and started like the real one."""

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from attestation.encoding import b64url_decode
from enclave.gpu.bus import BusEnd, Descriptors, Side
from enclave.gpu.device.attested import AttestedGpu, attest
from enclave.gpu.link import SpdmPort
from enclave.tee.gather import gather
from enclave.tee.simulated import ProcessorLink, SimulatedCollateral, SimulatedCpu


def main(configuration: dict[str, Any], end: socket.socket) -> int:
    """Write what a test wants to know to the file `report`, then stay as long as `stay` says."""
    link = ProcessorLink(end)
    bundle = gather(
        b64url_decode(configuration["nonce"]),
        b64url_decode(configuration["keyset"]),
        None,
        b64url_decode(configuration["workload"]),
        cpu=SimulatedCpu(link),
        devices=[_gpu(bus) for bus in configuration["buses"]],
        collateral=SimulatedCollateral(link),
    )
    facts = {
        "bundle": bundle.to_json().decode(),
        "pid": os.getpid(),
        "environment": sorted(os.environ),
        "path": sys.path,
        "flags": [sys.flags.isolated, sys.flags.no_site, sys.flags.dont_write_bytecode],
        "directory": os.getcwd(),
        "client": _importable("client"),
        "tests": _importable("tests"),
        "aiohttp": _importable("aiohttp"),
    }
    report = Path(configuration["report"])
    report.with_suffix(".part").write_text(json.dumps(facts))
    report.with_suffix(".part").rename(report)
    time.sleep(configuration["stay"])
    return 7


def _gpu(bus: list[int]) -> AttestedGpu:
    """The device on a bus, whoever it is: the test judges what it says."""
    worker_end = BusEnd(Descriptors.of(bus), Side.WORKER)
    worker_end.attach(60)
    port = SpdmPort(worker_end)

    def exchange(packet: bytes) -> bytes:
        port.send(packet)
        return port.receive(timeout=20)

    return AttestedGpu(attest(exchange, lambda evidence: True), exchange)


def _importable(name: str) -> bool:
    try:
        __import__(name)
    except ModuleNotFoundError:
        return False
    return True
