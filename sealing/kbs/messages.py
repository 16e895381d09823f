"""The protocol's messages, field by field as `kbs-types` has them at protocol version 0.4.0.

`to_bytes` writes compact JSON; `from_bytes` reads strictly what it knows and ignores the rest, as the
server does. All errors are MalformedMessage or a kind of it. None of these is evidence that was judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from ..errors import MalformedMessage
from . import reading
from .keys import TeePublicKey, parse_public_key

PROTOCOL_VERSION: Final = "0.4.0"
MARK: Final = "cloister"
"""The member by which a broker of ours marks its challenge, and a worker then its attestation."""

_AZURE: Final = {"az-snp-vtpm", "az-tdx-vtpm"}
_DEVICES: Final = {"nvidia", "hygondcu", "dpu"}
_TESTS: Final = {"sample", "sampledevice"}
TEES: Final = frozenset({"sgx", "snp", "tdx", "cca", "csv", "se", "tpm"} | _AZURE | _DEVICES | _TESTS)
MAX_REQUEST: Final = 16 * 1024
MAX_ATTESTATION: Final = 4 * 1024 * 1024
MAX_NONCE: Final = 1024
MAX_BOUND: Final = 128 * 1024
MAX_TOKEN: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """POST /kbs/v0/auth: which protocol, which TEE."""

    tee: str
    version: str = PROTOCOL_VERSION
    extra_params: Any = ""

    def to_bytes(self) -> bytes:
        """The message."""
        return reading.compact({"version": self.version, "tee": self.tee, "extra-params": self.extra_params})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The message in `raw`; a TEE that the protocol does not name is MalformedMessage."""
        found = reading.table(raw, "request", limit=MAX_REQUEST)
        tee = reading.text(found, "tee", "request", limit=32)
        if tee not in TEES:
            raise MalformedMessage("request: tee is none that the protocol names")
        return cls(
            tee=tee,
            version=reading.text(found, "version", "request", limit=32),
            extra_params=reading.member(found, "extra-params", "request"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What answers a request: the nonce as text, which is hashed as it stands."""

    nonce: str
    extra_params: Any = ""

    @property
    def marked(self) -> bool:
        """Whether a broker of ours sent it."""
        return isinstance(self.extra_params, dict) and MARK in self.extra_params

    def to_bytes(self) -> bytes:
        """The message."""
        return reading.compact({"nonce": self.nonce, "extra-params": self.extra_params})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The message in `raw`."""
        found = reading.table(raw, "challenge", limit=MAX_REQUEST)
        extra = reading.member(found, "extra-params", "challenge")
        return cls(nonce=reading.text(found, "nonce", "challenge", limit=MAX_NONCE), extra_params=extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a worker binds besides nonce and key, only to a broker of ours: keyset and workload."""

    keyset: bytes
    workload: bytes

    def to_json(self) -> dict[str, str]:
        """The values as they are hashed."""
        return {"keyset": reading.encode(self.keyset), "workload": reading.encode(self.workload)}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The entry in `value`."""
        found = reading.as_table(value, MARK)
        keyset, workload = (reading.octets(found, n, MARK, limit=MAX_BOUND) for n in ("keyset", "workload"))
        return cls(keyset=keyset, workload=workload)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeData:
    """What the evidence is bound to. Its JSON values are what both sides hash."""

    nonce: str
    tee_pubkey: TeePublicKey
    bound: Bound | None = None

    def to_json(self) -> dict[str, Any]:
        """The values that are hashed: these members and no others."""
        table: dict[str, Any] = {"nonce": self.nonce, "tee-pubkey": self.tee_pubkey.to_json()}
        return table if self.bound is None else table | {MARK: self.bound.to_json()}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The data in `value`."""
        found = reading.as_table(value, "runtime-data")
        bound = found.get(MARK)
        return cls(
            nonce=reading.text(found, "nonce", "runtime-data", limit=MAX_NONCE),
            tee_pubkey=parse_public_key(reading.member(found, "tee-pubkey", "runtime-data")),
            bound=Bound.from_json(bound) if bound is not None else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeEvidence:
    """The primary TEE's evidence as JSON, and the devices' as text that is hashed exactly as sent."""

    primary: Any
    additional: str = ""

    def to_json(self) -> dict[str, Any]:
        """The evidence as JSON values."""
        return {"primary_evidence": self.primary, "additional_evidence": self.additional}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The evidence in `value`, unjudged."""
        found = reading.as_table(value, "tee-evidence")
        return cls(
            primary=reading.member(found, "primary_evidence", "tee-evidence"),
            additional=reading.text(found, "additional_evidence", "tee-evidence", limit=MAX_ATTESTATION),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InitData:
    """What the host gave the guest at launch, in plaintext; its hash is in HOST_DATA or MRCONFIGID."""

    format: str
    body: str

    def to_json(self) -> dict[str, str]:
        """The data as JSON values."""
        return {"format": self.format, "body": self.body}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The data in `value`."""
        found = reading.as_table(value, "init-data")
        body = reading.text(found, "body", "init-data", limit=MAX_ATTESTATION)
        return cls(format=reading.text(found, "format", "init-data", limit=32), body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """POST /kbs/v0/attest. `stapled`: collateral by kind, only to a broker of ours; signed or nothing."""

    runtime_data: RuntimeData
    tee_evidence: CompositeEvidence
    init_data: InitData | None = None
    stapled: Mapping[str, Any] | None = None

    def to_bytes(self) -> bytes:
        """The message."""
        table: dict[str, Any] = {
            "init-data": self.init_data.to_json() if self.init_data else None,
            "runtime-data": self.runtime_data.to_json(),
            "tee-evidence": self.tee_evidence.to_json(),
        }
        return reading.compact(table if self.stapled is None else table | {MARK: dict(self.stapled)})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The message in `raw`."""
        found = reading.table(raw, "attestation", limit=MAX_ATTESTATION)
        init, stapled = found.get("init-data"), found.get(MARK)
        return cls(
            runtime_data=RuntimeData.from_json(reading.member(found, "runtime-data", "attestation")),
            tee_evidence=CompositeEvidence.from_json(reading.member(found, "tee-evidence", "attestation")),
            init_data=InitData.from_json(init) if init is not None else None,
            stapled=reading.as_table(stapled, MARK) if stapled is not None else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenResponse:
    """What answers an attestation that was accepted: a JWT."""

    token: str

    def to_bytes(self) -> bytes:
        """The message."""
        return reading.compact({"token": self.token})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The message in `raw`."""
        found = reading.table(raw, "token", limit=MAX_TOKEN)
        return cls(token=reading.text(found, "token", "token", limit=MAX_TOKEN))


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInformation:
    """The body of every error."""

    type: str
    detail: str

    def to_bytes(self) -> bytes:
        """The message."""
        return reading.compact({"type": self.type, "detail": self.detail})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The message in `raw`."""
        found = reading.table(raw, "error", limit=MAX_REQUEST)
        kind = reading.text(found, "type", "error", limit=1024)
        return cls(type=kind, detail=reading.text(found, "detail", "error", limit=MAX_REQUEST))
