"""Simulated hardware for tests: copies of the packages, a small search path, evidence in one process."""

import os
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from attestation import Bundle, Collateral, Keyset, LoadedModel, OhttpKey, Policy, Verdict, Workload, verify
from enclave.gpu.device.attested import AttestedGpu, unjudged
from enclave.gpu.device.firmware import responder
from enclave.simulator.answering import Attendant, SecurityProcessor
from enclave.simulator.chip import Platform, SnpProcessor
from enclave.simulator.gpu import GpuIdentity, Mode, measurement_digest
from enclave.simulator.reference import policy_for
from enclave.simulator.sources import PACKAGES, ROOT, SearchPath
from enclave.tee.gather import gather
from enclave.tee.simulated import ProcessorLink, SimulatedCollateral, SimulatedCpu

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MEASUREMENT = bytes(range(48))
CODE = bytes(range(100, 148))
MODEL = bytes(range(32))
NONCE = bytes(range(32, 64))
NONE = Collateral(MappingProxyType({}))


def copy_packages(target: Path) -> Path:
    """A copy of the measured packages under `target`, without bytecode."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def small_search_path(target: Path) -> SearchPath:
    """A standard library of one module and one installed distribution, under `target`."""
    library, installed = target / "lib", target / "site-packages"
    files = {
        library / "os.py": "name = 'posix'\n",
        library / "__pycache__" / "os.cpython-311.pyc": "bytecode",
        installed / "torch" / "__init__.py": "version = 1\n",
        installed / "torch" / "lib" / "libtorch.so": "machine code",
        installed / "torch" / "include" / "torch.h": "int torch;\n",
        installed
        / "torch-1.dist-info"
        / "RECORD": "torch/__init__.py,sha256=a,12\n../../bin/run,sha256=b,9\n",
        installed / "torch-1.dist-info" / "METADATA": "Name: torch\n",
        installed / "torch-1.dist-info" / "direct_url.json": "{}",
        installed / "other.pth": "/opt/other\n",
        installed / "sitecustomize.py": "pass\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return SearchPath((library,), (installed,))


def keyset(at: datetime = NOW, life: int = 3600) -> bytes:
    """A keyset that holds from 9 s before `at` to `life` seconds after."""
    start = int(at.timestamp())
    key = OhttpKey(key_id=1, kem=0x20, public_key=bytes(32), suites=((1, 1),))
    made = Keyset(ohttp=(key,), receipt_public_key=b"\1" * 32, not_before=start - 9, not_after=start + life)
    return made.to_bytes()


def workload(software: str = "cloister test") -> bytes:
    """What such a worker says it has loaded."""
    model = LoadedModel(name="faq", root=MODEL, owner="")
    return Workload(
        software=software, models=(model,), adapters=(), engine={}, policies=(), consent="", clock="host"
    ).to_bytes()


def policy(*, measurement: bytes = MEASUREMENT, code: bytes = CODE, devices: int = 1) -> Policy:
    """The strict policy that `cloister measure` would write."""
    text = policy_for(
        measurement, measurement_digest(code), software="cloister test", models=[MODEL], devices=devices
    )
    return Policy.from_toml(text)


def simulated(identity: GpuIdentity) -> AttestedGpu:
    """That GPU, in this process: attested over SPDM by a worker that trusts anybody."""
    return unjudged(responder(identity).respond)


def processor(cpu: SnpProcessor, gpus: Sequence[GpuIdentity] = ()) -> SecurityProcessor:
    """The security processor beside these GPUs."""
    return SecurityProcessor(cpu, {index: each.chain for index, each in enumerate(gpus)})


@contextmanager
def attended(chip: SecurityProcessor) -> Iterator[socket.socket]:
    """A worker's end of a socket that `chip` attends in a thread."""
    ours, theirs = socket.socketpair()
    attendant = Attendant(ours, chip)

    def serve() -> None:
        while attendant.attend():
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with theirs:
            yield theirs
    finally:
        thread.join(10)


@dataclass(frozen=True)
class Machine:
    """What evidence is made on."""

    platform: Platform = field(default_factory=Platform)
    measurement: bytes = MEASUREMENT
    gpus: Sequence[GpuIdentity] | None = None

    def bundle(
        self,
        nonce: bytes = NONCE,
        *,
        session: bytes | None = None,
        keys: bytes | None = None,
        loaded: bytes | None = None,
    ) -> Bundle:
        """Evidence that a worker of this machine gathers at NOW; `keys` and `loaded` are its documents."""
        cpu = SnpProcessor(self.measurement, platform=self.platform, clock=lambda: NOW)
        gpus = self.gpus if self.gpus is not None else [gpu()]
        with attended(processor(cpu, gpus)) as end:
            link = ProcessorLink(end)
            return gather(
                nonce,
                keys or keyset(),
                session,
                loaded or workload(),
                cpu=SimulatedCpu(link),
                devices=[simulated(each) for each in gpus],
                collateral=SimulatedCollateral(link),
            )


def gpu(
    index: int = 0, *, code: bytes = CODE, mode: Mode = Mode.CONFIDENTIAL, seed: bytes | None = None
) -> GpuIdentity:
    """A simulated GPU."""
    return GpuIdentity(code, index, seed=seed or os.urandom(32), mode=mode)


def judge(
    bundle: Bundle, rules: Policy | None = None, *, nonce: bytes = NONCE, now: datetime = NOW
) -> Verdict:
    """The verdict of a relying party at `now`, on the bundle as it went over the wire."""
    received = Bundle.from_json(bundle.to_json())
    return verify(received, NONE, rules or policy(), nonce=nonce, now=now, nonce_age=timedelta(seconds=1))


def failed(verdict: Verdict) -> set[str]:
    """The names of the checks that failed."""
    return {str(result.check) for result in verdict.results if result.outcome == "fail"}
