"""Simulated machines that attest to a broker."""

import base64
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from attestation import Collateral, LoadedModel, Policy, Verdict, Workload, verify
from attestation.kbs import KbsEvidence
from enclave.gpu.device.attested import AttestedGpu
from enclave.simulator.answering import Attendant, SecurityProcessor
from enclave.simulator.chip import SnpProcessor
from enclave.tee.gather import gather_kbs
from enclave.tee.simulated import ProcessorLink, SimulatedCollateral, SimulatedCpu
from sealing import kbs
from tests.enclave import simulation

NOW = simulation.NOW
MARK = {kbs.MARK: {"version": 1}}


def challenge(*, marked: bool = True) -> kbs.Challenge:
    """A challenge as a broker makes it."""
    nonce = base64.b64encode(os.urandom(32)).decode()
    return kbs.Challenge(nonce=nonce, extra_params=MARK if marked else "")


def bound(at: datetime = NOW, *, models: tuple[bytes, ...] = (simulation.MODEL,)) -> kbs.Bound:
    """Keyset and workload of a worker at `at`."""
    loaded = tuple(LoadedModel(name=f"m{i}", root=root, owner="") for i, root in enumerate(models))
    workload = Workload(
        software="cloister test", models=loaded, adapters=(), engine={}, policies=(), consent="", clock="host"
    )
    return kbs.Bound(keyset=simulation.keyset(at), workload=workload.to_bytes())


@dataclass(frozen=True)
class Machine:
    """A CPU and `devices` GPUs, up and running."""

    cpu: SimulatedCpu
    devices: tuple[AttestedGpu, ...]
    collateral: SimulatedCollateral

    def attest(
        self, to: kbs.Challenge, key: kbs.TeeKeyPair, worker: kbs.Bound | None = None
    ) -> kbs.Attestation:
        """What this machine answers."""
        return gather_kbs(to, key, worker, cpu=self.cpu, devices=self.devices, collateral=self.collateral)


@contextmanager
def machine(
    *, measurement: bytes = simulation.MEASUREMENT, devices: int = 1, at: datetime | None = NOW
) -> Iterator[Machine]:
    """A machine whose clock stands at `at`, or runs if that is None."""
    clock = {} if at is None else {"clock": lambda: at}
    cpu = SnpProcessor(measurement, **clock)  # type: ignore[arg-type]
    gpus = [simulation.gpu(index) for index in range(devices)]
    with _attended(simulation.processor(cpu, gpus)) as end:
        link = ProcessorLink(end)
        yield Machine(
            SimulatedCpu(link),
            tuple(simulation.simulated(each) for each in gpus),
            SimulatedCollateral(link),
        )


@contextmanager
def _attended(processor: SecurityProcessor) -> Iterator[socket.socket]:
    """A worker's end of a socket that is attended however long nothing comes."""
    ours, theirs = socket.socketpair()
    attendant = Attendant(ours, processor)

    def serve() -> None:
        while select.select([ours], [], []) and attendant.attend():
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with theirs:
            yield theirs
    finally:
        thread.join(10)


def judged(
    attestation: kbs.Attestation, to: kbs.Challenge, rules: Policy, *, now: datetime = NOW, tee: str = "snp"
) -> Verdict:
    """The verdict on an attestation as it went over the wire."""
    received = kbs.Attestation.from_bytes(attestation.to_bytes())
    evidence = KbsEvidence(
        tee=tee,
        runtime=received.runtime_data.to_json(),
        primary=received.tee_evidence.primary,
        additional=received.tee_evidence.additional,
    )
    collateral = Collateral.from_json(received.stapled or {}).stapled()
    return verify(
        evidence,
        collateral,
        rules,
        nonce=to.nonce.encode(),
        now=now,
        nonce_age=timedelta(seconds=1),
    )
