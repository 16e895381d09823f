"""Evidence as it reaches a verifier: raw bytes, grouped by what is judged together.

Nothing here is parsed; `verify` parses, and says what is malformed. Sizes and encodings are the
vendors' own; certificates are DER or PEM.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from .encoding import b64url_encode, canonical, strict_json
from .errors import MalformedEvidence
from .values import exact, octets

if TYPE_CHECKING:
    from .evidence import Bundle, DeviceEvidence
    from .kbs import KbsEvidence

Pcrs = Mapping[str, Mapping[int, bytes]]
"""Register values by bank ("sha256") and index."""

VTPM_FORMAT = "cloister/azure-vtpm/v1"
MAX_VTPM = 1024 * 1024
_NO_PCRS: Pcrs = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpEvidence:
    """An SEV-SNP report, plain or extended, and the certificates or certificate tables for it."""

    report: bytes
    endorsements: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxEvidence:
    """A TDX quote and, where there is one, the event log behind its RTMRs."""

    quote: bytes
    event_log: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxEvidence:
    """An SGX quote."""

    quote: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuEvidence:
    """The NVIDIA GPUs and NVSwitches of one machine, which all answer one nonce."""

    devices: "tuple[DeviceEvidence, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class RimEvidence:
    """A signed reference manifest of NVIDIA, by itself."""

    manifest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmQuotes:
    """What a TPM says: (TPMS_ATTEST, signature) pairs, TPMT_PUBLIC, certificates, registers, log."""

    quotes: tuple[tuple[bytes, bytes], ...] = ()
    public: bytes | None = None
    certificates: tuple[bytes, ...] = ()
    pcrs: Pcrs = field(default_factory=lambda: _NO_PCRS)
    event_log: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroEvidence:
    """An AWS Nitro Enclaves attestation document."""

    document: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MaaEvidence:
    """A token of Microsoft Azure Attestation, in compact form."""

    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NrasEvidence:
    """A response of NVIDIA's remote attestation service, JSON."""

    response: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AciEvidence:
    """A confidential container group: SNP report, utility VM endorsement, security policy (its text)."""

    report: bytes
    uvm: bytes
    endorsements: tuple[bytes, ...] = ()
    security_policy: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureVtpm:
    """An Azure confidential VM: HCL report, quote of its vTPM (message, signature), registers.

    `endorsements` are for the SNP report inside; on TDX `td_quote` is the quote over the runtime data.
    """

    hcl: bytes
    quote: tuple[bytes, bytes] | None = None
    pcrs: Pcrs = field(default_factory=lambda: _NO_PCRS)
    endorsements: tuple[bytes, ...] = ()
    td_quote: bytes | None = None

    def to_json(self) -> bytes:
        """The parts as one JSON document, which is a bundle's `cpu.report`; without endorsements."""
        table: dict[str, Any] = {
            "format": VTPM_FORMAT,
            "hcl": b64url_encode(self.hcl),
            "pcrs": {
                bank: {str(index): b64url_encode(value) for index, value in registers.items()}
                for bank, registers in self.pcrs.items()
            },
        }
        if self.quote is not None:
            table |= {"quote": b64url_encode(self.quote[0]), "signature": b64url_encode(self.quote[1])}
        if self.td_quote is not None:
            table["td_quote"] = b64url_encode(self.td_quote)
        return canonical(table)

    @classmethod
    def from_json(cls, raw: bytes, endorsements: tuple[bytes, ...] = ()) -> Self:
        """The document in `raw`; MalformedEvidence unless exactly its members are there."""
        value = strict_json(raw, limit=MAX_VTPM)
        if not isinstance(value, dict) or value.get("format") != VTPM_FORMAT:
            raise MalformedEvidence(f"not a {VTPM_FORMAT} document")
        quoted = value.keys() & {"quote", "signature"}
        names = {"format", "hcl", "pcrs"} | ({"quote", "signature"} if quoted else set())
        table = exact(value, names | (value.keys() & {"td_quote"}), "azure-vtpm document")
        return cls(
            hcl=octets(table["hcl"]),
            quote=(octets(table["quote"]), octets(table["signature"])) if quoted else None,
            pcrs=_registers(table["pcrs"]),
            endorsements=endorsements,
            td_quote=octets(table["td_quote"]) if "td_quote" in table else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TinfoilDocument:
    """A Tinfoil attestation document, version 3 (JSON), and certificates for its CPU report."""

    document: bytes
    endorsements: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DstackDocument:
    """What a dstack inference service says: TDX quote, event log, its machine's devices."""

    quote: bytes
    event_log: bytes | None = None
    devices: "tuple[DeviceEvidence, ...]" = ()


Evidence: TypeAlias = (
    "Bundle | SnpEvidence | TdxEvidence | SgxEvidence | GpuEvidence | RimEvidence | TpmQuotes | NitroEvidence"
    " | MaaEvidence | NrasEvidence | AciEvidence | AzureVtpm | TinfoilDocument | DstackDocument"
    " | KbsEvidence"
)
"""Whatever `verify` judges."""


def _registers(value: Any) -> Pcrs:
    if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
        raise MalformedEvidence("pcrs is not an object of objects")
    return {bank: {_index(key): octets(item) for key, item in part.items()} for bank, part in value.items()}


def _index(text: str) -> int:
    if not text.isascii() or not text.isdigit() or str(int(text[:3])) != text:
        raise MalformedEvidence(f"{text!r:.20} is not a register's index")
    return int(text)
