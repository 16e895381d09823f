"""What produces a worker's evidence: one CPU TEE, any number of devices, and the collateral they need.

Each hardware has a module of its own in this package that implements these protocols; `gather` and
all above it know only them. Every method may block and is called from a thread.
"""

from typing import Protocol

from attestation import Collateral, CpuEvidence, DeviceEvidence


class EvidenceUnavailable(Exception):
    """The hardware, or what stands for it, did not answer; the message says what to do."""


class CpuTee(Protocol):
    """The CPU's trusted execution environment."""

    @property
    def tee(self) -> str:
        """Its name in evidence, such as "sev-snp"."""

    def report(self, report_data: bytes) -> CpuEvidence:
        """A report over 64 bytes, which only `gather` computes. Raises EvidenceUnavailable."""


class Device(Protocol):
    """An attested device."""

    @property
    def tee(self) -> str:
        """Its name in evidence, such as "nvidia-gpu"."""

    def report(self, nonce: bytes) -> DeviceEvidence:
        """A report for a nonce of 32 bytes. Raises EvidenceUnavailable."""


class CollateralSource(Protocol):
    """Where a worker gets what it staples: revocation lists, status responses."""

    def current(self) -> Collateral:
        """What is valid now; empty if there is nothing to staple. Raises EvidenceUnavailable."""
