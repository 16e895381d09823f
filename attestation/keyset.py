"""What a bundle binds besides hardware: the worker's keys, a one-time key, and what is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .encoding import b64url_encode, canonical, canonical_json
from .errors import MalformedEvidence
from .values import exact, hexadecimal, octets, sequence, string, uint

MAX_KEYSET = 64 * 1024
MAX_LIFETIME = 24 * 3600
RECEIPT_KEY_SIZE = 32
MAX_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class OhttpKey:
    """A public oblivious-HTTP key: id (u8), KEM id, raw public key, (KDF, AEAD) pairs."""

    key_id: int
    kem: int
    public_key: bytes
    suites: tuple[tuple[int, int], ...]

    def to_json(self) -> dict[str, Any]:
        """The key as JSON values."""
        return {
            "key_id": self.key_id,
            "kem": self.kem,
            "public_key": b64url_encode(self.public_key),
            "suites": [list(suite) for suite in self.suites],
        }

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The key in `value`; MalformedEvidence unless exactly its members are there."""
        table = exact(value, {"key_id", "kem", "public_key", "suites"}, "ohttp key")
        return cls(
            key_id=uint(table["key_id"], 0xFF),
            kem=uint(table["kem"], 0xFFFF),
            public_key=octets(table["public_key"]),
            suites=_suites(table["suites"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyset:
    """The worker's public keys and their validity in Unix seconds. K is its SHA-256."""

    ohttp: tuple[OhttpKey, ...]
    receipt_public_key: bytes
    not_before: int
    not_after: int

    def to_bytes(self) -> bytes:
        """The keyset as RFC 8785 JSON: the exact bytes that K covers."""
        receipt = {"alg": "Ed25519", "public_key": b64url_encode(self.receipt_public_key)}
        return canonical(
            {
                "v": 1,
                "ohttp": [key.to_json() for key in self.ohttp],
                "receipt": receipt,
                "not_before": self.not_before,
                "not_after": self.not_after,
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The keyset in `raw`; MalformedEvidence if it is anything but its own canonical form."""
        table = _versioned(raw, {"v", "ohttp", "receipt", "not_before", "not_after"}, "keyset")
        receipt = exact(table["receipt"], {"alg", "public_key"}, "receipt key")
        if receipt["alg"] != "Ed25519":
            raise MalformedEvidence("receipt key is not Ed25519")
        keyset = cls(
            ohttp=tuple(OhttpKey.from_json(item) for item in sequence(table["ohttp"], "ohttp")),
            receipt_public_key=octets(receipt["public_key"], RECEIPT_KEY_SIZE),
            not_before=uint(table["not_before"]),
            not_after=uint(table["not_after"]),
        )
        _check_distinct(keyset)
        return keyset


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A one-time oblivious-HTTP key, erased by the worker at its first open. S is its SHA-256."""

    key: OhttpKey
    not_after: int

    def to_bytes(self) -> bytes:
        """The session as RFC 8785 JSON: the exact bytes that S covers."""
        return canonical({"v": 1, "not_after": self.not_after} | self.key.to_json())

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The session in `raw`; MalformedEvidence if it is anything but its own canonical form."""
        names = {"v", "key_id", "kem", "public_key", "suites", "not_after"}
        table = dict(_versioned(raw, names, "session"))
        del table["v"]
        not_after = uint(table.pop("not_after"))
        return cls(key=OhttpKey.from_json(table), not_after=not_after)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model or adapter in the worker: its name, the SHA-256 root of its files, its owner."""

    name: str
    root: bytes
    owner: str

    def to_json(self) -> dict[str, str]:
        """The entry as JSON values."""
        return {"name": self.name, "root": self.root.hex(), "owner": self.owner}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The entry in `value`; MalformedEvidence unless exactly its members are there."""
        table = exact(value, {"name", "root", "owner"}, "model")
        return cls(
            name=string(table["name"]), root=hexadecimal(table["root"], 32), owner=string(table["owner"])
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is loaded right now. W is the SHA-256 of its canonical form.

    `engine` is a flat table of option names and values; `policies` and `consent` are digests
    (`sha256:<hex>`); `clock` says where expiry gets its time from.
    """

    software: str
    models: tuple[LoadedModel, ...]
    adapters: tuple[LoadedModel, ...]
    engine: Mapping[str, str | int | bool]
    policies: tuple[str, ...]
    consent: str
    clock: str

    def to_bytes(self) -> bytes:
        """The workload as RFC 8785 JSON: the exact bytes that W covers."""
        return canonical(
            {
                "v": 1,
                "software": self.software,
                "models": [model.to_json() for model in self.models],
                "adapters": [adapter.to_json() for adapter in self.adapters],
                "engine": dict(self.engine),
                "policies": list(self.policies),
                "consent": self.consent,
                "clock": self.clock,
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The workload in `raw`; MalformedEvidence if it is anything but its own canonical form."""
        names = {"v", "software", "models", "adapters", "engine", "policies", "consent", "clock"}
        table = _versioned(raw, names, "workload")
        workload = cls(
            software=string(table["software"]),
            models=tuple(LoadedModel.from_json(item) for item in sequence(table["models"], "models")),
            adapters=tuple(LoadedModel.from_json(item) for item in sequence(table["adapters"], "adapters")),
            engine=_options(table["engine"]),
            policies=tuple(string(item) for item in sequence(table["policies"], "policies")),
            consent=string(table["consent"]),
            clock=string(table["clock"]),
        )
        _check_names(workload)
        return workload


def _versioned(raw: bytes, names: set[str], what: str) -> Mapping[str, Any]:
    table = exact(canonical_json(raw, limit=MAX_KEYSET), names, what)
    if uint(table["v"]) != 1:
        raise MalformedEvidence(f"{what} has version {table['v']}, not 1")
    return table


def _suites(value: Any) -> tuple[tuple[int, int], ...]:
    pairs = [sequence(item, "suite", 2) for item in sequence(value, "suites", 16)]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise MalformedEvidence("suites is not a list of (KDF, AEAD) pairs")
    return tuple((uint(kdf, 0xFFFF), uint(aead, 0xFFFF)) for kdf, aead in pairs)


def _options(value: Any) -> Mapping[str, str | int | bool]:
    if not isinstance(value, dict) or any(not isinstance(item, (str, int)) for item in value.values()):
        raise MalformedEvidence("engine is not a flat table of strings, integers and booleans")
    return value


def _check_distinct(keyset: Keyset) -> None:
    ids = [key.key_id for key in keyset.ohttp]
    public = [key.public_key for key in keyset.ohttp] + [keyset.receipt_public_key]
    if not ids or len(set(ids)) != len(ids) or len(set(public)) != len(public):
        raise MalformedEvidence("keyset has no key, or a key id or key is repeated")


def _check_names(workload: Workload) -> None:
    """Names of models and adapters are distinct, so that a request means one; and short, see padding."""
    names = [item.name for item in (*workload.models, *workload.adapters)]
    if len(set(names)) != len(names) or any(not 0 < len(name) <= MAX_NAME for name in names):
        raise MalformedEvidence("names of models and adapters are not distinct and of 1 to 64 characters")
