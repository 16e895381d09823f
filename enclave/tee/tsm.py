"""Evidence of a real CPU TEE: Linux's report interface in configfs, of SEV-SNP and TDX guests.

Documentation/ABI/testing/configfs-tsm-report in Linux (6.7 or later): a directory is a request. What is in
`inblob` is signed when `outblob` is read; `auxblob` holds what the host added; `generation` counts writes.
Where there are privilege levels (SEV-SNP's VMPLs) `privlevel` says for which, 0 if nothing is written, and
`privlevel_floor` which is the lowest that this guest may ask for: above 0 where an SVSM runs beneath it.
Each report has a directory of its own, with a name that nobody can foresee. Never run on such hardware.
"""

import errno
import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from attestation import CpuEvidence, MalformedEvidence, certificates
from attestation.dcap.quote import TEE_TDX, Quote
from attestation.snp import table
from attestation.tdx import EventLog

from .interface import EvidenceUnavailable

log = logging.getLogger(__name__)

REPORTS: Final = Path("/sys/kernel/config/tsm/report")
CCEL: Final = Path("/sys/firmware/acpi/tables/data/CCEL")
"""What firmware and boot loader of a TDX guest measured into its RTMRs: the area that the ACPI table of this
name points to (UEFI 2.10, section 38)."""
REPORT_DATA: Final = 64
SNP_REPORT: Final = 1184
MAX_PRIVLEVEL: Final = 3
MAX_BLOB: Final = table.MAX_TABLE
MAX_ENDORSEMENTS: Final = 16
_PIECE: Final = 1 << 16
_T = TypeVar("_T")

_GUEST = "run inside an SEV-SNP or TDX guest with Linux 6.7 or later"
_NO_TREE = (
    f"{_GUEST}; there, as root, `modprobe sev-guest` or `modprobe tdx-guest`, and"
    " `mount -t configfs none /sys/kernel/config` if it is not mounted"
)
_FIRMWARE = "see the kernel log; for TDX the host's quote generation service must run"
_REMEDIES: Final = {
    errno.ENOENT: _NO_TREE,
    errno.ENXIO: f"no driver provides reports; {_NO_TREE}",
    errno.EACCES: "run as root: only root may ask for reports",
    errno.EPERM: "run as root: only root may ask for reports",
    errno.EBUSY: "another request is under way; try again in a moment",
    errno.EIO: f"the firmware or the host failed to sign; {_FIRMWARE}",
    errno.ETIMEDOUT: f"the host did not answer in time; {_FIRMWARE}",
    errno.EFBIG: "the report is larger than this kernel hands out; update the guest's kernel",
    errno.EINVAL: "the driver does not take what was asked; update the guest's kernel",
}
_OTHER = "see the kernel log"


class Changed(Exception):
    """Somebody else wrote to the request while it was answered."""


class Configfs:
    """The file operations that the interface takes; a test plays the kernel behind them."""

    def make(self, entry: Path) -> None:
        """Make a request. It has its files at once."""
        entry.mkdir(mode=0o700)

    def write(self, file: Path, content: bytes) -> None:
        """Write all of an attribute in one call, as the kernel wants it."""
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.EIO, "a short write")
        finally:
            os.close(descriptor)

    def read(self, file: Path) -> bytes:
        """All of an attribute, at most 1 MiB."""
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = bytearray()
            while piece := os.read(descriptor, _PIECE):
                found += piece
                if len(found) > MAX_BLOB:
                    raise OSError(errno.EFBIG, f"more than {MAX_BLOB} bytes")
            return bytes(found)
        finally:
            os.close(descriptor)

    def remove(self, entry: Path) -> None:
        """Take the request back; its files go with it."""
        entry.rmdir()


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is known of one provider."""

    provider: str
    read: Callable[[bytes, bytes], CpuEvidence]
    logged: bool = False


class TsmCpu:
    """The CPU TEE that this machine runs in: "sev-snp" or "tdx". Implements `CpuTee`.

    `event_log` is where a TDX guest has its own. The provider is asked for at once, so that a machine that is
    none is refused before anything is loaded. Raises EvidenceUnavailable, ValueError for another name.
    """

    def __init__(
        self, tee: str, *, reports: Path = REPORTS, event_log: Path = CCEL, files: Configfs | None = None
    ) -> None:
        if tee not in KINDS:
            raise ValueError(f"{tee!r} is not one of {', '.join(KINDS)}")
        self.tee = tee
        self._kind = KINDS[tee]
        self._reports, self._event_log, self._files = reports, event_log, files or Configfs()
        self._lock = threading.Lock()
        self._told = False
        if level := self._asked(self._level_of_provider):
            log.info("reports are of VMPL %d, which a policy must name: vmpls = [%d]", level, level)

    def report(self, report_data: bytes) -> CpuEvidence:
        """A report over 64 bytes. As endorsements the certificates (DER) that the host gave, if any; under
        TDX the event log, if there is one.

        Whether it answers these bytes is the verifier's to judge. Raises EvidenceUnavailable.
        """
        if len(report_data) != REPORT_DATA:
            raise ValueError(f"report data has {REPORT_DATA} bytes")
        with self._lock:
            try:
                evidence = self._once(report_data)
            except Changed:
                evidence = self._again(report_data)
        if self._kind.logged:
            return self._with_log(evidence)
        if not evidence.endorsements:
            self._tell_once(
                "the host gave no certificates: verifiers need them from `cloister collateral fetch`"
            )
        return evidence

    def _with_log(self, evidence: CpuEvidence) -> CpuEvidence:
        """With the event log as it is now: verifiers hold it to the registers, whatever it says."""
        try:
            found = self._files.read(self._event_log)
            count = len(EventLog.from_bytes(found).events)
        except (OSError, MalformedEvidence) as error:
            why = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            self._tell_once(f"no event log is sent, which a policy may demand: {self._event_log}: {why}")
            return evidence
        self._tell_once(f"an event log of {count} events is sent")
        return replace(evidence, endorsements=(found,))

    def _tell_once(self, what: str) -> None:
        if not self._told:
            self._told = True
            log.info(what)

    def _again(self, report_data: bytes) -> CpuEvidence:
        try:
            return self._once(report_data)
        except Changed:
            raise EvidenceUnavailable(
                "the request for a report was changed twice while it was answered: another process of root"
                f" writes to {self._reports}; find and stop it"
            ) from None

    def _once(self, report_data: bytes) -> CpuEvidence:
        report, added = self._asked(lambda entry: self._exchange(entry, report_data))
        return self._kind.read(report, added)

    def _asked(self, ask: Callable[[Path], _T]) -> _T:
        """The answer to one request, which is gone afterwards. Raises EvidenceUnavailable, Changed."""
        entry = self._reports / f"cloister-{secrets.token_hex(8)}"
        try:
            self._files.make(entry)
            try:
                return ask(entry)
            finally:
                with suppress(OSError):
                    self._files.remove(entry)
        except OSError as error:
            raise self._unavailable(error) from None

    def _exchange(self, entry: Path, report_data: bytes) -> tuple[bytes, bytes]:
        """The report and what the host added, if nobody but us wrote in between."""
        level = self._level_of_provider(entry)
        before = self._generation(entry)
        writes = {"privlevel": b"%d" % level, "inblob": report_data} if level else {"inblob": report_data}
        for name, content in writes.items():
            self._files.write(entry / name, content)
        try:
            report, added = self._files.read(entry / "outblob"), self._optional(entry / "auxblob")
        except BlockingIOError:  # the kernel's own word for it
            raise Changed from None
        if self._generation(entry) != before + len(writes):
            raise Changed
        return report, added

    def _optional(self, file: Path) -> bytes:
        """An attribute that guests may lack, as TDX guests do."""
        try:
            return self._files.read(file)
        except FileNotFoundError:
            return b""

    def _generation(self, entry: Path) -> int:
        text = self._files.read(entry / "generation").strip()
        if not text.isdigit() or len(text) > 20:
            raise EvidenceUnavailable(f"{entry.parent} counts {text[:20]!r} writes: {_OTHER}")
        return int(text)

    def _level_of_provider(self, entry: Path) -> int:
        """The privilege level to ask for: the lowest that there may be, the most privileged."""
        self._check_provider(entry)
        text = self._optional(entry / "privlevel_floor").strip() or b"0"
        if text not in [b"%d" % level for level in range(MAX_PRIVLEVEL + 1)]:
            raise EvidenceUnavailable(
                f"{entry.parent} gives {text[:20]!r} as the lowest privilege level,"
                f" not 0 to {MAX_PRIVLEVEL}: {_OTHER}"
            )
        return int(text)

    def _check_provider(self, entry: Path) -> None:
        found = self._files.read(entry / "provider").strip().decode("ascii", "replace")
        if found != self._kind.provider:
            fitting = [name for name, kind in KINDS.items() if kind.provider == found]
            remedy = f"serve with --tee {fitting[0]}" if fitting else _GUEST
            raise EvidenceUnavailable(
                f"this machine's reports come from {found[:64]!r}, --tee {self.tee} needs"
                f" {self._kind.provider!r}: {remedy}"
            )

    def _unavailable(self, error: OSError) -> EvidenceUnavailable:
        what = f"{self._reports} gave no report for --tee {self.tee} ({os.strerror(error.errno or 0)})"
        return EvidenceUnavailable(f"{what}: {_REMEDIES.get(error.errno or 0, _OTHER)}")


def _read_snp(report: bytes, added: bytes) -> CpuEvidence:
    if len(report) != SNP_REPORT:
        raise EvidenceUnavailable(
            f"an SEV-SNP report has {SNP_REPORT} bytes, this one {len(report)}: update the guest's kernel"
        )
    try:
        found = dict.fromkeys(each for content in _contents(added) for each in _ders(content))
    except MalformedEvidence as error:
        raise EvidenceUnavailable(
            f"the host's certificate table does not parse: {error}; have the host mend it, or give none"
        ) from None
    if len(found) > MAX_ENDORSEMENTS:
        raise EvidenceUnavailable(
            f"the host's table has {len(found)} certificates; {MAX_ENDORSEMENTS} are enough: have it mended"
        )
    return CpuEvidence(tee="sev-snp", report=report, endorsements=tuple(found))


def _contents(added: bytes) -> list[bytes]:
    """What the table holds as certificates; nothing where there is no table."""
    entries = table.read_table(added) if added else ()
    return [content for guid, content in entries if guid in table.CERTIFICATES]


def _ders(content: bytes) -> list[bytes]:
    return [each.raw for each in certificates.load_all(content)]


def _read_tdx(report: bytes, _: bytes) -> CpuEvidence:
    try:
        quote = Quote.from_bytes(report)
    except MalformedEvidence as error:
        raise EvidenceUnavailable(f"what came is no TDX quote: {error}; {_FIRMWARE}") from None
    if quote.header.tee_type != TEE_TDX:
        raise EvidenceUnavailable(f"the quote is not a TDX guest's; {_FIRMWARE}")
    return CpuEvidence(tee="tdx", report=report)


KINDS: Final[Mapping[str, _Kind]] = {
    "sev-snp": _Kind("sev_guest", _read_snp),
    "tdx": _Kind("tdx_guest", _read_tdx, logged=True),
}
"""By the name that evidence gives the TEE."""
