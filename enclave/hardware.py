"""The worker on real hardware: evidence from the CPU TEE that it runs in and from confidential GPUs.

Nothing is simulated: it is started directly. What is measured is the machine at its launch, so that its image
must hold exactly this software; what the worker has loaded is bound by report_data, as everywhere. The engine
runs in this process, on the CPU or on the first GPU. Never run on such hardware (LIMITATIONS.md).
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from attestation import AttestationError, Collateral, Policy
from attestation.binding import NONCE_SIZE

from .configuration import Configuration
from .ending import REFUSALS, ended_quietly, exit_status
from .engine.vllm.places import remove_all
from .gpu.nvml import GpuRefused, Nvml, NvmlGpu, admit
from .identity import Identity
from .memory import harden_process
from .simulator.processor import environment
from .simulator.sources import ROOT
from .tee.gather import gather
from .tee.interface import CollateralSource, CpuTee, Device, EvidenceUnavailable
from .tee.tsm import REPORTS, Configfs, TsmCpu
from .worker import Worker, embedded, say_how_protected, serve_until_stopped

log = logging.getLogger(__name__)

MODULE: Final = "enclave.hardware_start"


class NoCollateral:
    """Nothing to staple: verifiers fetch their own. Implements `CollateralSource`."""

    def current(self) -> Collateral:
        """Empty."""
        return Collateral()


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuJudge:
    """What this machine's GPUs are judged by before they are given anything: a policy in TOML, collateral."""

    policy: str
    collateral: Collateral

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"policy": self.policy, "collateral": self.collateral.to_json()}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The judge in `value`."""
        return cls(policy=value["policy"], collateral=Collateral.from_json(value["collateral"]))


def become(configuration: Configuration, judge: GpuJudge | None) -> NoReturn:
    """Replace this process by the worker, in an environment of few variables."""
    table = configuration.measured() | configuration.local()
    content = json.dumps(table | {"gpu_judge": judge.to_json() if judge else None}).encode()
    orders = os.memfd_create("cloister-orders")
    with open(orders, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(orders, 0, os.SEEK_SET)
    os.dup2(orders, 0)
    os.chdir(ROOT)
    sys.stdout.flush()
    command = [sys.executable, "-E", "-s", "-B", "-u", "-m", MODULE]
    os.execve(sys.executable, command, environment())  # noqa: S606


def main(*, reports: Path = REPORTS, files: Configfs | None = None) -> int:
    """Run the worker whose settings come on standard input until it is told to stop.

    1. the CPU TEE, then every GPU, has to answer before anything is loaded;  2. then it loads, and serves
    """
    logging.basicConfig(level=logging.INFO, format="worker: %(message)s")
    hardened = harden_process()
    table = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    configuration = Configuration.from_tables(table)
    judge = GpuJudge.from_json(table["gpu_judge"]) if table["gpu_judge"] else None
    identity = Identity()
    say_how_protected(hardened, identity)
    with contextlib.ExitStack() as until_end:
        try:
            with ended_quietly(lambda: erase(identity)):
                cpu = TsmCpu(configuration.tee or "", reports=reports, files=files)  # 1
                devices = admitted(judge, until_end) if configuration.confidential_gpu else ()
                worker = started(configuration, identity, cpu, devices)  # 2
        except (*REFUSALS, AttestationError, EvidenceUnavailable, GpuRefused) as error:
            log.error("not started: %s", error)
            identity.erase()
            return exit_status(error)
        return serve_until_stopped(worker, configuration)


def erase(identity: Identity) -> None:
    """The keys, and the small files that vLLM was given: an adapter's weights may be among them."""
    try:
        identity.erase()
    finally:
        remove_all()


def admitted(judge: GpuJudge | None, until_end: contextlib.ExitStack) -> tuple[NvmlGpu, ...]:
    """All GPUs of this machine, once they passed; NVML stays open until the end.

    Raises GpuRefused, EvidenceUnavailable, PolicyError.
    """
    if judge is None:
        raise EvidenceUnavailable("no policy says what the GPUs must be: --gpu-policy FILE")
    nvml = until_end.enter_context(Nvml.open())
    admission = admit(nvml, Policy.from_toml(judge.policy), judge.collateral)
    for gpu in admission.gpus:
        log.info("GPU %d: %s, VBIOS %s: evidence verified", gpu.index, gpu.name, gpu.vbios)
    return admission.gpus


def started(
    configuration: Configuration, identity: Identity, cpu: CpuTee, devices: Sequence[Device]
) -> Worker:
    """The worker over this hardware, which has to sign once before anything is loaded.

    Raises EvidenceUnavailable, and what `Worker` raises.
    """
    staple: CollateralSource = NoCollateral()
    once = os.urandom(NONCE_SIZE)
    gather(once, identity.keyset_bytes, None, b"", cpu=cpu, devices=devices, collateral=staple)
    log.info("evidence comes from %s", ", ".join([cpu.tee, *(device.tee for device in devices)]))
    return Worker(configuration, identity, cpu, devices, staple, embedded)
