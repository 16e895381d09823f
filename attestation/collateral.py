"""What verification needs besides evidence and roots: CRLs, TCB info, manifests, status answers.

Items are trusted only as far as they are signed, and are looked up by what they say of
themselves, never by where they came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self

from .encoding import b64url_encode
from .errors import MalformedEvidence
from .values import octets, sequence


class Kind(StrEnum):
    """What an item is; its bytes are in the vendor's own encoding."""

    AMD_CERTIFICATE = "amd.certificate"
    AMD_CRL = "amd.crl"
    INTEL_TCB_INFO = "intel.tcb-info"
    INTEL_QE_IDENTITY = "intel.qe-identity"
    INTEL_TCB_SIGNING_CHAIN = "intel.tcb-signing-chain"
    INTEL_PCK_CRL = "intel.pck-crl"
    INTEL_PCK_CRL_CHAIN = "intel.pck-crl-chain"
    INTEL_ROOT_CRL = "intel.root-crl"
    NVIDIA_RIM = "nvidia.rim"
    NVIDIA_OCSP = "nvidia.ocsp"
    NVIDIA_NRAS_KEYS = "nvidia.nras-keys"
    AZURE_MAA_KEYS = "azure.maa-keys"
    TPM_CERTIFICATE = "tpm.certificate"


UNSIGNED = frozenset({Kind.AZURE_MAA_KEYS, Kind.NVIDIA_NRAS_KEYS})
"""Kinds that are only as good as whoever supplied them; never taken from evidence."""


@dataclass(frozen=True, slots=True)
class Collateral:
    """Collateral items by kind, in the order given. Parsed where it is used."""

    items: Mapping[Kind, tuple[bytes, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, kind: Kind) -> tuple[bytes, ...]:
        """All items of `kind`; an empty tuple means there is nothing to judge by."""
        return self.items.get(kind, ())

    def merged(self, other: "Collateral") -> "Collateral":
        """These items followed by `other`'s."""
        kinds = [kind for kind in Kind if kind in self.items or kind in other.items]
        return Collateral(MappingProxyType({kind: self.of(kind) + other.of(kind) for kind in kinds}))

    def stapled(self) -> "Collateral":
        """These items as an untrusted party may supply them: without those that nobody signed.

        Whoever sends a token could otherwise send the keys that it verifies under.
        """
        signed = {kind: items for kind, items in self.items.items() if kind not in UNSIGNED}
        return Collateral(MappingProxyType(signed))

    def to_json(self) -> dict[str, list[str]]:
        """The items as base64url strings by kind."""
        return {str(kind): [b64url_encode(item) for item in items] for kind, items in self.items.items()}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The collateral in `value`; an unknown kind is MalformedEvidence."""
        if not isinstance(value, dict):
            raise MalformedEvidence("collateral is not an object")
        unknown = value.keys() - set(Kind)
        if unknown:
            raise MalformedEvidence(f"unknown collateral {sorted(unknown)}")
        items = {Kind(k): tuple(octets(i) for i in sequence(v, k, 64)) for k, v in value.items()}
        return cls(MappingProxyType(items))
