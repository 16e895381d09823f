"""What a worker proves itself to a broker with: its hardware, its keys and what it has loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from attestation.kbs import KBS_TEES
from enclave.tee.gather import gather_kbs
from enclave.tee.interface import CollateralSource, CpuTee, Device, EvidenceUnavailable
from sealing import kbs


@dataclass(frozen=True, slots=True, kw_only=True)
class Attester:
    """Hardware, and `bound`, which gives keyset and workload as they are at the moment it is asked."""

    cpu: CpuTee
    devices: Sequence[Device]
    collateral: CollateralSource
    bound: Callable[[], kbs.Bound]

    @property
    def tee(self) -> str:
        """The CPU's name in the protocol. EvidenceUnavailable if brokers take no evidence of it."""
        name = KBS_TEES.get(self.cpu.tee)
        if name is None:
            raise EvidenceUnavailable(f"key brokers take no evidence of {self.cpu.tee}")
        return name

    def attest(self, challenge: kbs.Challenge, key: kbs.TeeKeyPair) -> kbs.Attestation:
        """Fresh evidence for `challenge`, bound to `key`. Blocks. Raises EvidenceUnavailable."""
        return gather_kbs(
            challenge,
            key,
            self.bound() if challenge.marked else None,
            cpu=self.cpu,
            devices=self.devices,
            collateral=self.collateral,
        )
