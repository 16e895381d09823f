"""What a policy may say of TPM quotes: the [tpm] section, and the register rules it shares."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Self

from ..errors import PolicyError
from ..section import MISSING, Section
from .quote import PCRS, PcrValues

SIZES = {"sha256": 32, "sha384": 48, "sha512": 64}
_PCR_HINT = 'list values, for example [{}.pcrs.sha256] with 4 = ["..."], or write allow_any_pcrs = true'


@dataclass(frozen=True, slots=True, kw_only=True)
class PcrRules:
    """Which values registers may hold, by bank and index; None is the spelled-out "any"."""

    allowed: Mapping[str, Mapping[int, frozenset[bytes]]] | None

    @classmethod
    def parse(cls, section: Section) -> Self:
        """The table `pcrs` of `section`, or `allow_any_pcrs = true`, but not both."""
        allow_any = section.flag("allow_any_pcrs")
        if allow_any == ("pcrs" in section):
            raise PolicyError(f"{section.name}: {_PCR_HINT.format(section.name)}, and not both")
        return cls(allowed=None if allow_any else section.table("pcrs", _banks))

    def mismatches(self, quoted: frozenset[tuple[str, int]], values: PcrValues) -> list[str]:
        """The registers that were not quoted, or hold a value that is not listed; "sha256:4"."""
        return [
            f"{bank}:{index}"
            for bank, registers in (self.allowed or {}).items()
            for index, allowed in registers.items()
            if (bank, index) not in quoted or values.get(bank, {}).get(index) not in allowed
        ]


def _banks(section: Section) -> Mapping[str, Mapping[int, frozenset[bytes]]]:
    banks = {
        bank: section.table(bank, partial(_registers, size=size))
        for bank, size in SIZES.items()
        if bank in section
    }
    if not banks:
        raise PolicyError(f"[{section.name}] names no bank; known: {', '.join(SIZES)}")
    return banks


def _registers(section: Section, size: int) -> Mapping[int, frozenset[bytes]]:
    found = {index: section.digests(str(index), size) for index in range(PCRS) if str(index) in section}
    if not found or not all(found.values()):
        raise PolicyError(f'[{section.name}] lists no value; write for example 4 = ["..."]')
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmPolicy:
    """The [tpm] section.

    `vendors`: whose roots an attestation key may chain to, empty only with `allow_untrusted_ak`.
    `ak_keys`: SHA-256 of the SubjectPublicKeyInfo of the only keys accepted, or None for any that
    chains. `banks`: register banks that must be quoted, empty only with `allow_missing_quote`.
    """

    vendors: frozenset[str]
    ak_keys: frozenset[bytes] | None
    banks: frozenset[str]
    pcrs: PcrRules
    require_event_log: bool
    allow_untrusted_ak: bool
    allow_missing_quote: bool
    allow_missing_nonce: bool

    @classmethod
    def parse(cls, section: Section) -> Self:
        """The section; PolicyError for what is missing, unknown or contradictory."""
        untrusted, unquoted = section.flag("allow_untrusted_ak"), section.flag("allow_missing_quote")
        vendors = section.choices("ak_vendors", {"azure", "google"}, [] if untrusted else MISSING)
        banks = section.choices("banks", set(SIZES), [] if unquoted else MISSING)
        if untrusted == bool(vendors):
            raise PolicyError(
                f"{section.name}: write ak_vendors, or only if none is wanted allow_untrusted_ak = true"
            )
        if not unquoted and not banks:
            raise PolicyError(f"{section.name}.banks is empty; name one, or allow_missing_quote = true")
        return cls(
            vendors=vendors,
            ak_keys=section.digests("ak_keys", 32) if "ak_keys" in section else None,
            banks=banks,
            pcrs=PcrRules.parse(section),
            require_event_log=section.choice("event_log", {"required", "ignored"}) == "required",
            allow_untrusted_ak=untrusted,
            allow_missing_quote=unquoted,
            allow_missing_nonce=section.flag("allow_missing_nonce"),
        )
