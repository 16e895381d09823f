"""TPM 2.0 quotes: TPMS_ATTEST of type TPM_ST_ATTEST_QUOTE (TPM 2.0 Library, Part 2, 10.12)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ..errors import MalformedEvidence
from ..wire import Reader

GENERATED = 0xFF544347
QUOTE = 0x8018
MAX_ATTEST = 2048
MAX_BANKS = 16
PCRS = 24
BANKS = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
PcrValues = Mapping[str, Mapping[int, bytes]]


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """Which registers of one bank were quoted. `select` is the bit map as sent."""

    algorithm: int
    select: bytes

    @property
    def bank(self) -> str:
        """The bank's name, such as "sha256"."""
        return BANKS.get(self.algorithm, f"0x{self.algorithm:04x}")

    @property
    def indexes(self) -> tuple[int, ...]:
        """The selected registers, ascending: the order in which the TPM hashes them."""
        return tuple(
            8 * octet + bit for octet, bits in enumerate(self.select) for bit in range(8) if bits >> bit & 1
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a TPM signed. Parsed, not verified.

    `extra_data` is the verifier's nonce; `clock` counts milliseconds, `reset_count` and
    `restart_count` power cycles and resumes; `safe` says that the clock never ran backwards.
    """

    qualified_signer: bytes
    extra_data: bytes
    clock: int
    reset_count: int
    restart_count: int
    safe: bool
    firmware_version: int
    selections: tuple[PcrSelection, ...]
    pcr_digest: bytes

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The quote in `raw`; what no TPM made, or one made for another purpose, is MalformedEvidence."""
        if len(raw) > MAX_ATTEST:
            raise MalformedEvidence(f"TPMS_ATTEST of {len(raw)} bytes exceeds {MAX_ATTEST}")
        reader = Reader(raw, "TPMS_ATTEST")
        if reader.big(4) != GENERATED:
            raise MalformedEvidence("TPMS_ATTEST without TPM_GENERATED_VALUE")
        if reader.big(2) != QUOTE:
            raise MalformedEvidence("TPMS_ATTEST that is not a quote")
        quote = cls(
            qualified_signer=reader.sized(),
            extra_data=reader.sized(),
            clock=reader.big(8),
            reset_count=reader.big(4),
            restart_count=reader.big(4),
            safe=_yes_no(reader),
            firmware_version=reader.big(8),
            selections=_selections(reader),
            pcr_digest=reader.sized(),
        )
        reader.end()
        return quote

    def to_bytes(self) -> bytes:
        """The TPMS_ATTEST, byte for byte as parsed."""
        head = GENERATED.to_bytes(4, "big") + QUOTE.to_bytes(2, "big")
        clock = self.clock.to_bytes(8, "big") + self.reset_count.to_bytes(4, "big")
        clock += self.restart_count.to_bytes(4, "big") + bytes([self.safe])
        selected = b"".join(
            s.algorithm.to_bytes(2, "big") + bytes([len(s.select)]) + s.select for s in self.selections
        )
        body = len(self.selections).to_bytes(4, "big") + selected + sized(self.pcr_digest)
        firmware = self.firmware_version.to_bytes(8, "big")
        return head + sized(self.qualified_signer) + sized(self.extra_data) + clock + firmware + body

    @property
    def selected(self) -> frozenset[tuple[str, int]]:
        """Every (bank, register) that the digest covers."""
        return frozenset((s.bank, index) for s in self.selections for index in s.indexes)

    def digest_of(self, values: PcrValues, algorithm: str) -> bytes | None:
        """The digest these register values would have given; None if a selected one is not among them."""
        if any(index not in values.get(bank, {}) for bank, index in self.selected):
            return None
        joined = (values[s.bank][index] for s in self.selections for index in s.indexes)
        return hashlib.new(algorithm, b"".join(joined)).digest()


def sized(data: bytes) -> bytes:
    """`data` as a TPM2B."""
    return len(data).to_bytes(2, "big") + data


def _yes_no(reader: Reader) -> bool:
    value = reader.big(1)
    if value > 1:
        raise MalformedEvidence("TPMI_YES_NO that is neither")
    return value == 1


def _selections(reader: Reader) -> tuple[PcrSelection, ...]:
    count = reader.big(4)
    if count > MAX_BANKS:
        raise MalformedEvidence(f"quote over {count} selections")
    found = tuple(PcrSelection(reader.big(2), reader.take(reader.big(1))) for _ in range(count))
    if any(index >= PCRS for item in found for index in item.indexes):
        raise MalformedEvidence("quote over registers that do not exist")
    if len({item.algorithm for item in found}) != count:
        raise MalformedEvidence("quote that selects a bank twice")
    return found
