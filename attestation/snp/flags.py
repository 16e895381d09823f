"""Bit fields of the attestation report: guest policy, platform information, signer information."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import KEEP, IntEnum, IntFlag
from typing import Any, Self

from ..errors import MalformedEvidence


class _Word(IntFlag, boundary=KEEP):
    """Flags of which bits without a name may be set too.

    An IntFlag remembers every value that it was asked for, and here whoever writes evidence chooses
    them: those with bits that have no name are forgotten.
    """

    @classmethod
    def _missing_(cls, value: object) -> Any:
        found = super()._missing_(value)
        if int(found) & ~sum(cls):
            cls._value2member_map_.pop(value, None)
        return found


class GuestFlag(_Word, boundary=KEEP):
    """Bits 16 and up of the guest policy (SEV-SNP ABI 1.58, section 4.3)."""

    SMT = 1 << 16
    RESERVED_ONE = 1 << 17
    MIGRATE_MA = 1 << 18
    DEBUG = 1 << 19
    SINGLE_SOCKET = 1 << 20
    CXL = 1 << 21
    MEM_AES_256_XTS = 1 << 22
    RAPL_DISABLED = 1 << 23
    CIPHERTEXT_HIDING = 1 << 24
    PAGE_SWAP_DISABLED = 1 << 25


_GUEST_KNOWN = sum(GuestFlag)


@dataclass(frozen=True, slots=True)
class GuestPolicy:
    """POLICY: what the guest's owner demands of the host. `abi_*`: the least ABI version."""

    abi_major: int
    abi_minor: int
    flags: GuestFlag

    @classmethod
    def from_int(cls, value: int) -> Self:
        """The policy in the 64-bit `value`; every value parses."""
        return cls(value >> 8 & 0xFF, value & 0xFF, GuestFlag(value & ~0xFFFF))

    def to_int(self) -> int:
        """The 64-bit value."""
        return int(self.flags) | self.abi_major << 8 | self.abi_minor

    @property
    def well_formed(self) -> bool:
        """Whether bit 17 is one and bits 26 to 63 are zero, as the specification says."""
        return GuestFlag.RESERVED_ONE in self.flags and not int(self.flags) & ~_GUEST_KNOWN


class PlatformInfo(_Word, boundary=KEEP):
    """PLATFORM_INFO (SEV-SNP ABI 1.58, section 7.3): what the host has switched on."""

    SMT = 1 << 0
    TSME = 1 << 1
    ECC = 1 << 2
    RAPL_DISABLED = 1 << 3
    CIPHERTEXT_HIDING = 1 << 4
    ALIAS_CHECK_COMPLETE = 1 << 5
    IOMMU_WRITE_SAFE = 1 << 6
    TIO = 1 << 7

    @property
    def unknown(self) -> int:
        """The bits that the specification does not name."""
        return int(self) & ~_PLATFORM_KNOWN


_PLATFORM_KNOWN = sum(PlatformInfo)


def named(names: Mapping[str, IntFlag], bits: int) -> list[str]:
    """The names of those of `bits` that have one."""
    return [name for name, flag in names.items() if int(flag) & bits] if bits else []


class SigningKey(IntEnum):
    """What signed a report (SEV-SNP ABI 1.58, section 7.3)."""

    VCEK = 0
    VLEK = 1
    NONE = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerInfo:
    """The word at 048h: the signing key, and whether author key and chip key are in use."""

    signing_key: SigningKey
    mask_chip_key: bool = False
    author_key_en: bool = False

    @classmethod
    def from_int(cls, value: int) -> Self:
        """The 32-bit `value`; MalformedEvidence for a reserved bit or an unknown key."""
        try:
            key = SigningKey(value >> 2)
        except ValueError:
            raise MalformedEvidence(f"SIGNER_INFO {value:#x} has reserved bits or an unknown key") from None
        return cls(signing_key=key, mask_chip_key=bool(value & 2), author_key_en=bool(value & 1))

    def to_int(self) -> int:
        """The 32-bit value."""
        return self.signing_key << 2 | self.mask_chip_key << 1 | self.author_key_en
