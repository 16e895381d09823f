"""Plays the kernel behind the report interface: real files in a directory tree, captured reports as answers.

Also a worker over it, as a process: `python -c "from tests.hardware.kernel import worker; worker()"`.
"""

import errno
import gzip
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from enclave.tee.tsm import Configfs
from tests.shared import shared

VMPL = 0x30
"""Where an SNP report has its VMPL (ABI 7.3)."""
SNP = "snp/genoa-v3-extended-cert-table"
TDX = "tdx/v4-uptodate"
LOGGED = "tdx/v4-gcp-ccel"


@dataclass
class Kernel(Configfs):
    """What the machine is like. `fails` gives a file an errno; `disturbed`: how many answers to disturb.
    `floor` is the lowest privilege level that may be asked for, None where there are no levels.
    """

    provider: str
    report: bytes
    added: bytes | None = None
    fails: dict[str, int] = field(default_factory=dict)
    disturbed: int = 0
    asked: list[bytes] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    generation: str | None = None
    floor: str | None = None
    levels: list[int] = field(default_factory=list)

    def make(self, entry: Path) -> None:
        self._fail("entry")
        super().make(entry)
        self.made.append(entry.name)
        (entry / "inblob").touch()
        (entry / "provider").write_text(f"{self.provider}\n")
        (entry / "generation").write_text(f"{self.generation or 0}\n")
        if self.floor is not None:
            (entry / "privlevel_floor").write_text(f"{self.floor}\n")
            (entry / "privlevel").touch()

    def write(self, file: Path, content: bytes) -> None:
        self._fail(file.name)
        super().write(file, content)
        assert file.read_bytes() == content
        self._count(file.parent)
        if file.name == "privlevel":
            if not int(self.floor or 0) <= int(content) <= 3:
                raise OSError(errno.EINVAL, "a level that there is not")
            return
        assert file.name == "inblob"
        self.asked.append(content)
        (file.parent / "outblob").write_bytes(self._signed(file.parent / "privlevel"))
        if self.added is not None:
            (file.parent / "auxblob").write_bytes(self.added)

    def read(self, file: Path) -> bytes:
        self._fail(file.name)
        found = super().read(file)
        if file.name == "outblob" and self.disturbed:
            self.disturbed -= 1
            self._count(file.parent)
        return found

    def _signed(self, asked: Path) -> bytes:
        """The report, of the level that was asked for; the firmware gives none below the floor."""
        if self.floor is None:
            return self.report
        level = int(asked.read_bytes() or b"0")
        self.levels.append(level)
        if self.floor.isdigit() and level < int(self.floor):
            raise OSError(errno.EIO, "the firmware refuses")
        return self.report[:VMPL] + level.to_bytes(4, "little") + self.report[VMPL + 4 :]

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
