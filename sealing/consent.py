"""Consent: what several parties agree to let one worker do together, signed by each (docs/spec/consent.md).

The manifest names what may be loaded, the code that may load it, what may come out, who agrees, until when.
Every party signs the same bytes: whatever is changed in them, no signature holds any more.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from . import cose, documents
from .errors import ConsentRefused, MalformedDocument, SignatureRefused

CONTENT_TYPE: Final = "application/vnd.cloister.consent+json"
FORMAT: Final = "cloister/consent/v1"
FILE_FORMAT: Final = "cloister/signed-consent/v1"
MAX_MANIFEST: Final = 64 * 1024
MAX_FILE: Final = 8 * 1024 * 1024
MAX_PARTIES: Final = 32
MAX_ROOTS: Final = 64
MEASUREMENT_SIZE: Final = 48
MAX_SCHEMA: Final = 16 * 1024
_ROOT_SIZE: Final = 32
_NAME: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Who agrees: a name, what it brings, and the key that signs for it."""

    name: str
    role: str
    signer: cose.Signer

    def to_json(self) -> dict[str, str]:
        """The entry as JSON values."""
        return {"name": self.name, "role": self.role, "key": documents.b64url(self.signer.spki)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model, adapter or body of documents by name and root (32 bytes).

    `owner` is the hash of the key that sealed it, whose statement the root is then, or None for plain files,
    which the worker hashes itself. `readers` are the parties to whom passages of documents may be quoted;
    empty for models and adapters.
    """

    name: str
    root: bytes
    owner: bytes | None = None
    readers: tuple[str, ...] = ()

    def to_json(self, *, data: bool = False) -> dict[str, Any]:
        """The entry as JSON values."""
        table: dict[str, Any] = {"name": self.name, "root": self.root.hex()}
        if self.owner is not None:
            table["owner"] = self.owner.hex()
        return table | {"readers": list(self.readers)} if data else table


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRules:
    """What may come out: tokens an answer, whether log-probabilities, the JSON Schema of answers or None."""

    max_tokens: int
    logprobs: bool = False
    schema: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The rules as JSON values; the schema as its JSON text."""
        table: dict[str, Any] = {"max_tokens": self.max_tokens, "logprobs": self.logprobs}
        return table if self.schema is None else table | {"schema": self.schema}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is agreed to. `measurement` (48 bytes) is the worker's code, `expires` in Unix seconds."""

    title: str
    base: Loaded
    adapters: tuple[Loaded, ...]
    data: tuple[Loaded, ...]
    measurement: bytes
    output: OutputRules
    parties: tuple[Party, ...]
    expires: int

    def to_bytes(self) -> bytes:
        """What every party signs: canonical JSON."""
        return documents.encode(
            {
                "format": FORMAT,
                "title": self.title,
                "base": self.base.to_json(),
                "adapters": [item.to_json() for item in self.adapters],
                "data": [item.to_json(data=True) for item in self.data],
                "measurement": self.measurement.hex(),
                "output": self.output.to_json(),
                "parties": [party.to_json() for party in self.parties],
                "expires": self.expires,
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The manifest in `raw`. Raises MalformedDocument."""
        members = documents.decode(raw, "consent", limit=MAX_MANIFEST)
        members.exactly("format", FORMAT)
        manifest = cls(
            title=members.text("title", limit=256),
            base=_loaded(members.inner("base")),
            adapters=tuple(_loaded(item) for item in members.objects("adapters", limit=MAX_ROOTS)),
            data=tuple(_loaded(item, data=True) for item in members.objects("data", limit=MAX_ROOTS)),
            measurement=members.hexadecimal("measurement", MEASUREMENT_SIZE),
            output=_rules(members.inner("output")),
            parties=tuple(_party(item) for item in members.objects("parties", limit=MAX_PARTIES)),
            expires=members.whole("expires", high=1 << 37),
        )
        members.end()
        manifest.check()
        return manifest

    def check(self) -> None:
        """Raise MalformedDocument unless names are distinct, someone agrees and readers are parties."""
        names = [party.name for party in self.parties]
        keys = {party.signer.spki for party in self.parties}
        loaded = [item.name for item in (self.base, *self.adapters, *self.data)]
        readers = {reader for item in self.data for reader in item.readers}
        if not names or len(set(names)) != len(names) or len(keys) != len(names):
            raise MalformedDocument("a consent has at least one party, each with a name and key of its own")
        if len(set(loaded)) != len(loaded) or not readers <= set(names):
            raise MalformedDocument("two things have one name in the consent, or a reader is no party")

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the manifest, as workloads and policies write it."""
        return f"sha256:{hashlib.sha256(self.to_bytes()).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """A manifest and the signatures over it that were collected so far. Parsed, not verified."""

    manifest: Manifest
    signatures: tuple[cose.Sign1, ...] = field(default=(), repr=False)

    def signed_by(self, key: cose.SigningKey) -> Self:
        """This consent with the signature of the party whose key it is. Raises ConsentRefused for others."""
        signer = cose.Signer.of(key)
        if signer.spki not in {party.signer.spki for party in self.manifest.parties}:
            raise ConsentRefused("this key is none of the parties'")
        raw = cose.sign(self.manifest.to_bytes(), CONTENT_TYPE, key)
        mine = cose.Sign1.from_bytes(raw, limit=MAX_FILE)
        others = (each for each in self.signatures if each.key_id != mine.key_id)
        return replace(self, signatures=tuple(sorted((*others, mine), key=lambda each: each.key_id)))

    def standing(self) -> Mapping[str, str]:
        """For each party "signed", "missing", or why its signature does not hold."""
        return {party.name: self._standing(party) for party in self.manifest.parties}

    def check(self, now: int) -> Manifest:
        """The manifest, if every party's signature holds and it has not expired at `now` (Unix seconds).

        Raises ConsentRefused naming the parties, or the time.
        """
        lacking = {name: word for name, word in self.standing().items() if word != "signed"}
        if lacking:
            listed = "; ".join(f"{name}: {word}" for name, word in lacking.items())
            raise ConsentRefused(f"not every party has signed this consent ({listed})")
        if now >= self.manifest.expires:
            raise ConsentRefused("the consent has expired")
        return self.manifest

    def to_bytes(self) -> bytes:
        """The file: canonical JSON around the manifest and the COSE_Sign1 messages."""
        return documents.encode(
            {
                "format": FILE_FORMAT,
                "manifest": documents.b64url(self.manifest.to_bytes()),
                "signatures": [documents.b64url(each.to_bytes()) for each in self.signatures],
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The consent in a file. Raises MalformedDocument."""
        members = documents.decode(raw, "signed consent", limit=MAX_FILE)
        members.exactly("format", FILE_FORMAT)
        manifest = Manifest.from_bytes(members.octets("manifest", limit=2 * MAX_MANIFEST))
        texts = members.sequence("signatures", limit=MAX_PARTIES)
        members.end()
        consent = cls(manifest=manifest, signatures=tuple(_signature(text) for text in texts))
        ids = [each.key_id for each in consent.signatures]
        if ids != sorted(set(ids)):
            raise MalformedDocument("the signatures of a consent are not sorted by key, each once")
        return consent

    def _standing(self, party: Party) -> str:
        mine = next((each for each in self.signatures if each.key_id == party.signer.hash), None)
        if mine is None:
            return "missing"
        if mine.payload != self.manifest.to_bytes():
            return "signed another consent"
        try:
            mine.check(party.signer, CONTENT_TYPE)
        except SignatureRefused as error:
            return str(error)
        return "signed"


def canonical_schema(schema: Mapping[str, Any]) -> str:
    """A JSON Schema as a manifest holds it: its compact JSON text. Raises ValueError, also above 16 KiB."""
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    if len(text) > MAX_SCHEMA:
        raise ValueError(f"the JSON Schema has more than {MAX_SCHEMA} characters")
    return text


def _signature(text: object) -> cose.Sign1:
    raw = documents.Members({"signature": text}, "signed consent").octets("signature", limit=2 * MAX_MANIFEST)
    return cose.Sign1.from_bytes(raw, limit=MAX_FILE)


def _loaded(members: documents.Members, *, data: bool = False) -> Loaded:
    loaded = Loaded(
        name=members.text("name", limit=_NAME),
        root=members.hexadecimal("root", _ROOT_SIZE),
        owner=members.hexadecimal("owner", _ROOT_SIZE) if "owner" in members else None,
        readers=members.texts("readers", limit=MAX_PARTIES, length=_NAME) if data else (),
    )
    members.end()
    return loaded


def _rules(members: documents.Members) -> OutputRules:
    rules = OutputRules(
        max_tokens=members.whole("max_tokens", 1, 1 << 20),
        logprobs=members.flag("logprobs"),
        schema=members.text("schema", limit=MAX_SCHEMA) if "schema" in members else None,
    )
    members.end()
    if rules.schema is not None:
        _check_schema(rules.schema)
    return rules


def _check_schema(text: str) -> None:
    try:
        schema = json.loads(text)
        same = isinstance(schema, dict) and canonical_schema(schema) == text
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise MalformedDocument("the schema of a consent is not a JSON object in compact, sorted form")


def _party(members: documents.Members) -> Party:
    party = Party(
        name=members.text("name", limit=_NAME),
        role=members.text("role", limit=_NAME),
        signer=cose.Signer(members.octets("key", limit=1024)),
    )
    members.end()
    party.signer.key()  # its one encoding, or MalformedDocument
    return party
