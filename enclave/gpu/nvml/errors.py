"""Why a GPU cannot be asked, and why one may not serve: each with what to do.

EvidenceUnavailable
|- GpuUnavailable     NVML, the driver or the device did not answer, or not sensibly
GpuRefused            it answered, and must not be given secrets
"""

from dataclasses import dataclass

from enclave.tee.interface import EvidenceUnavailable


class GpuUnavailable(EvidenceUnavailable):
    """The GPU could not be asked. `code` is NVML's, None if it came from elsewhere."""

    def __init__(self, what: str, remedy: str, code: int | None = None) -> None:
        self.remedy, self.code = remedy, code
        super().__init__(f"{what}: {remedy}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason not to serve, and what removes it."""

    reason: str
    remedy: str


class GpuRefused(Exception):
    """The GPU must not serve. `findings` are all the reasons that were found, at least one."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        self.findings = findings
        super().__init__("; ".join(f"{each.reason} ({each.remedy})" for each in findings))
