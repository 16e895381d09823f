"""The evidence bundle `cloister/evidence/v1`: strict JSON around bytes exactly as produced."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from .binding import NONCE_SIZE, Device
from .collateral import Collateral
from .encoding import b64url_encode, canonical, strict_json
from .errors import MalformedEvidence
from .values import exact, octets, sequence, string

MEDIA_TYPE = "application/vnd.cloister.evidence+json"
FORMAT = "cloister/evidence/v1"
MAX_BUNDLE = 4 * 1024 * 1024
MAX_DEVICES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuEvidence:
    """A CPU TEE's report as it left the hardware, with the certificates offered for it (DER)."""

    tee: str
    report: bytes
    endorsements: tuple[bytes, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The evidence as JSON values."""
        return {
            "tee": self.tee,
            "report": b64url_encode(self.report),
            "endorsements": [b64url_encode(item) for item in self.endorsements],
        }

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The evidence in `value`, or MalformedEvidence."""
        table = exact(value, {"tee", "report", "endorsements"}, "cpu")
        return cls(
            tee=_tee(table["tee"]),
            report=octets(table["report"]),
            endorsements=tuple(octets(item) for item in sequence(table["endorsements"], "endorsements", 16)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvidence:
    """A device's report and certificate chain, each as one byte string that D covers."""

    tee: str
    report: bytes
    chain: bytes

    def bound(self) -> Device:
        """The triple that `binding` commits to."""
        return self.tee.encode("ascii"), self.report, self.chain

    def to_json(self) -> dict[str, Any]:
        """The evidence as JSON values."""
        return {"tee": self.tee, "report": b64url_encode(self.report), "chain": b64url_encode(self.chain)}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The evidence in `value`, or MalformedEvidence."""
        table = exact(value, {"tee", "report", "chain"}, "device")
        return cls(tee=_tee(table["tee"]), report=octets(table["report"]), chain=octets(table["chain"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Everything a worker offers about itself for one nonce. Parsed, not verified."""

    nonce: bytes
    keyset: bytes
    workload: bytes
    cpu: CpuEvidence
    devices: tuple[DeviceEvidence, ...] = ()
    session: bytes | None = None
    collateral: Collateral = field(default_factory=Collateral)

    def to_json(self) -> bytes:
        """The bundle as RFC 8785 JSON."""
        table: dict[str, Any] = {
            "format": FORMAT,
            "nonce": b64url_encode(self.nonce),
            "keyset": b64url_encode(self.keyset),
            "workload": b64url_encode(self.workload),
            "cpu": self.cpu.to_json(),
            "devices": [device.to_json() for device in self.devices],
            "collateral": self.collateral.to_json(),
        }
        if self.session is not None:
            table["session"] = b64url_encode(self.session)
        return canonical(table)

    @classmethod
    def from_json(cls, raw: bytes) -> Self:
        """The bundle in `raw`, at most 4 MiB of strict JSON; MalformedEvidence otherwise."""
        value = strict_json(raw, limit=MAX_BUNDLE)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise MalformedEvidence(f"not a {FORMAT} document")
        names = {"format", "nonce", "keyset", "workload", "cpu", "devices", "collateral"}
        table: Mapping[str, Any] = exact(value, names | (value.keys() & {"session"}), "bundle")
        return cls(
            nonce=octets(table["nonce"], NONCE_SIZE),
            keyset=octets(table["keyset"]),
            workload=octets(table["workload"]),
            session=octets(table["session"]) if "session" in table else None,
            cpu=CpuEvidence.from_json(table["cpu"]),
            devices=tuple(
                DeviceEvidence.from_json(item) for item in sequence(table["devices"], "devices", MAX_DEVICES)
            ),
            collateral=Collateral.from_json(table["collateral"]),
        )


def _tee(value: Any) -> str:
    text = string(value)
    if not text.isascii() or not 0 < len(text) <= 32:
        raise MalformedEvidence("tee is not a short ASCII name")
    return text
