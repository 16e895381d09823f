"""AMD's product lines, each with a root of its own, and the TCB versions they count by."""

import operator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache

from ..errors import MalformedEvidence


class Product(StrEnum):
    """A line with one ARK. Genoa's covers Bergamo and Siena."""

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"


@dataclass(frozen=True, slots=True)
class Cpuid:
    """Family, model and stepping from CPUID Fn8000_0001 (reports from version 3)."""

    family: int
    model: int
    stepping: int

    @property
    def product(self) -> Product | None:
        """The line that this processor belongs to, or None for an unknown one."""
        match self.family, self.model >> 4:
            case 0x19, 0x0:
                return Product.MILAN
            case 0x19, 0x1 | 0xA:
                return Product.GENOA
            case 0x1A, 0x0 | 0x1:
                return Product.TURIN
        return None


@dataclass(frozen=True, kw_only=True)
class Tcb:
    """TCB_VERSION (SEV-SNP ABI 1.58, section 2.2): security patch levels, 0 to 255 each.

    `fmc` is None on lines before Turin. Eight bytes: bl 0, tee 1, snp 6, ucode 7; from Turin on
    fmc 0, bl 1, tee 2, snp 3, ucode 7. The rest is reserved and zero.
    """

    bl: int
    tee: int
    snp: int
    ucode: int
    fmc: int | None = None

    @staticmethod
    def from_bytes(raw: bytes, *, fmc: bool) -> "Tcb":
        """The version in `raw`; MalformedEvidence for another length or reserved bytes in use."""
        return _tcb(raw, fmc)

    def to_bytes(self) -> bytes:
        """The eight bytes that `from_bytes` reads, in the layout that `fmc` implies."""
        if self.fmc is None:
            return bytes((self.bl, self.tee, 0, 0, 0, 0, self.snp, self.ucode))
        return bytes((self.fmc, self.bl, self.tee, self.snp, 0, 0, 0, self.ucode))

    def at_least(self, other: "Tcb") -> bool:
        """Whether no component is below `other`'s; false between layouts."""
        if (self.fmc is None) != (other.fmc is None):
            return False
        mine = (self.fmc or 0, self.bl, self.tee, self.snp, self.ucode)
        theirs = (other.fmc or 0, other.bl, other.tee, other.snp, other.ucode)
        return all(map(operator.ge, mine, theirs))

    def to_json(self) -> dict[str, int]:
        """The components by name."""
        levels = {"bl": self.bl, "tee": self.tee, "snp": self.snp, "ucode": self.ucode}
        return levels if self.fmc is None else {"fmc": self.fmc, **levels}

    def __str__(self) -> str:
        return self._words

    @cached_property
    def _words(self) -> str:
        levels = f"bl {self.bl} tee {self.tee} snp {self.snp} ucode {self.ucode}"
        return levels if self.fmc is None else f"fmc {self.fmc} {levels}"


@lru_cache(maxsize=64)
def _tcb(raw: bytes, fmc: bool) -> Tcb:
    """Remembered, since the four in a report are mostly the same."""
    if len(raw) != 8 or any(raw[4:7] if fmc else raw[2:6]):
        raise MalformedEvidence(f"TCB_VERSION {raw.hex()} is not eight bytes with reserved ones zero")
    if fmc:
        return Tcb(fmc=raw[0], bl=raw[1], tee=raw[2], snp=raw[3], ucode=raw[7])
    return Tcb(bl=raw[0], tee=raw[1], snp=raw[6], ucode=raw[7])


@dataclass(frozen=True, slots=True, order=True)
class FirmwareVersion:
    """A version of the SNP firmware; ordered by major, minor, build."""

    major: int
    minor: int
    build: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor} build {self.build}"
