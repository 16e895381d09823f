"""Plays the kernel behind the report interface: real files in a directory tree, captured reports as answers.

Also a worker over it, as a process: `python -c "from tests.hardware.kernel import worker; worker()"`.
"""

import gzip
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from enclave.tee.tsm import Configfs
from tests.shared import shared

SNP = "snp/genoa-v3-extended-cert-table"
TDX = "tdx/v4-uptodate"
LOGGED = "tdx/v4-gcp-ccel"


@dataclass
class Kernel(Configfs):
    """What the machine is like. `fails` gives a file an errno; `disturbed`: how many answers to disturb."""

    provider: str
    report: bytes
    added: bytes | None = None
    fails: dict[str, int] = field(default_factory=dict)
    disturbed: int = 0
    asked: list[bytes] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    generation: str | None = None

    def make(self, entry: Path) -> None:
        self._fail("entry")
        super().make(entry)
        self.made.append(entry.name)
        (entry / "inblob").touch()
        (entry / "provider").write_text(f"{self.provider}\n")
        (entry / "generation").write_text(f"{self.generation or 0}\n")

    def write(self, file: Path, content: bytes) -> None:
        self._fail(file.name)
        super().write(file, content)
        assert file.name == "inblob" and file.read_bytes() == content
        self.asked.append(content)
        self._count(file.parent)
        (file.parent / "outblob").write_bytes(self.report)
        if self.added is not None:
            (file.parent / "auxblob").write_bytes(self.added)

    def read(self, file: Path) -> bytes:
        self._fail(file.name)
        found = super().read(file)
        if file.name == "outblob" and self.disturbed:
            self.disturbed -= 1
            self._count(file.parent)
        return found

    def remove(self, entry: Path) -> None:
        for file in entry.iterdir():
            file.unlink()
        super().remove(entry)

    def _count(self, entry: Path) -> None:
        (entry / "generation").write_text(f"{int((entry / 'generation').read_text()) + 1}\n")

    def _fail(self, name: str) -> None:
        if name in self.fails:
            raise OSError(self.fails[name], "as the test wants it")


def snp(**more: object) -> Kernel:
    """An SEV-SNP guest on Genoa whose host gives a certificate table."""
    folder = shared("evidence", SNP)
    table = (folder / "auxblob_cert_table.bin").read_bytes()
    return Kernel("sev_guest", (folder / "report.bin").read_bytes(), **{"added": table, **more})  # type: ignore[arg-type]


def tdx(**more: object) -> Kernel:
    """A TDX guest."""
    return Kernel("tdx_guest", (shared("evidence", TDX) / "quote.bin").read_bytes(), **more)  # type: ignore[arg-type]


def logged(folder: Path) -> tuple[Kernel, Path]:
    """A TDX guest with an event log, and where that is."""
    found = shared("evidence", LOGGED)
    place = folder / "CCEL"
    place.write_bytes(gzip.decompress((found / "ccel_data.bin.gz").read_bytes()))
    return Kernel("tdx_guest", (found / "quote.bin").read_bytes()), place


KERNELS: dict[str, Callable[..., Kernel]] = {"sev-snp": snp, "tdx": tdx}


def worker() -> None:
    """The worker of `enclave.hardware` over such a kernel: arguments are the tree and the TEE's name."""
    from enclave import hardware

    tree, tee = sys.argv[1:]
    raise SystemExit(hardware.main(reports=Path(tree), files=KERNELS[tee]()))
