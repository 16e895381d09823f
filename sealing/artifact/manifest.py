"""The manifest: what an artifact holds, how it was sealed, who owns it; signed, and read strictly."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from sealing import cose, documents
from sealing.errors import MalformedDocument, ManifestRefused, SecretExpired

from .chunks import ARTIFACT_ID, RUN_ID, check_commitment
from .contents import Kind, is_path, loading_reads
from .layout import MAX_CHUNK, MAX_CHUNKS, MIN_CHUNK, FileEntry, Layout
from .secret import ReleasedSecret
from .tree import DIGEST

FORMAT: Final = "cloister/artifact/v1"
CONTENT_TYPE: Final = "application/vnd.cloister.artifact+json"
MAX_MANIFEST: Final = 4 * 1024 * 1024
MAX_FILES: Final = 16_384
MAX_RUNS: Final = 1024
MAX_TENANTS: Final = 1024
MAX_NAME: Final = 128


@dataclass(frozen=True, slots=True)
class Run:
    """A sealing run: its random id, and how many chunks in a row it sealed."""

    id: bytes
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest (docs/spec/artifact.md). Parsed, not verified.

    `root` is the plaintext's content root as the owner states it, `base` that of the model an adapter is
    for. `policy` is the SHA-256 of the release policy. `tenants`: who may use it; None for everyone.
    """

    id: bytes
    name: str
    version: int
    kind: Kind
    created: int
    owner: cose.Signer
    chunk_size: int
    files: tuple[FileEntry, ...]
    runs: tuple[Run, ...]
    tree: bytes
    root: bytes
    commitment: bytes
    demo: bool = False
    base: bytes | None = None
    policy: bytes | None = None
    tenants: tuple[str, ...] | None = None

    @property
    def resource(self) -> str:
        """The name of its key at a key broker, the same for all its versions."""
        return f"cloister/{self.kind}/{self.id.hex()}"

    def layout(self) -> Layout:
        """Where its chunks begin."""
        return Layout(self.files, self.chunk_size)

    def to_payload(self) -> bytes:
        """The canonical JSON that is signed."""
        optional: dict[str, Any] = {
            "base": None if self.base is None else documents.b64url(self.base),
            "policy": None if self.policy is None else documents.b64url(self.policy),
            "tenants": None if self.tenants is None else list(self.tenants),
        }
        given = {name: value for name, value in optional.items() if value is not None}
        return documents.encode(given | self._required())

    def sign(self, key: cose.SigningKey) -> bytes:
        """The manifest file: COSE_Sign1 by its owner, whose `key` it must be."""
        if cose.Signer.of(key) != self.owner:
            raise ManifestRefused("the signing key is not the owner's that the manifest names")
        return cose.sign(self.to_payload(), CONTENT_TYPE, key)

    @classmethod
    def from_payload(cls, raw: bytes) -> Self:
        """The manifest in `raw`. Raises MalformedDocument."""
        members = documents.decode(raw, "manifest", limit=MAX_MANIFEST)
        members.exactly("format", FORMAT)
        manifest = cls(
            id=members.octets("id", ARTIFACT_ID),
            name=members.text("name", limit=MAX_NAME),
            version=members.whole("version", 1),
            kind=_kind(members.text("kind", limit=16)),
            created=members.whole("created"),
            owner=cose.Signer(members.octets("owner", limit=256)),
            chunk_size=members.whole("chunk_size", MIN_CHUNK, MAX_CHUNK),
            files=tuple(_file(one) for one in members.objects("files", limit=MAX_FILES)),
            runs=tuple(_run(one) for one in members.objects("runs", limit=MAX_RUNS)),
            tree=members.octets("tree", DIGEST),
            root=members.octets("root", DIGEST),
            commitment=members.octets("commitment", 32),
            demo=members.flag("demo"),
            base=members.octets("base", DIGEST) if "base" in members else None,
            policy=members.octets("policy", DIGEST) if "policy" in members else None,
            tenants=_tenants(members) if "tenants" in members else None,
        )
        members.end()
        _check(manifest)
        return manifest

    def _required(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "id": documents.b64url(self.id),
            "name": self.name,
            "version": self.version,
            "kind": self.kind.value,
            "created": self.created,
            "owner": documents.b64url(self.owner.spki),
            "chunk_size": self.chunk_size,
            "files": [{"path": file.path, "size": file.size} for file in self.files],
            "runs": [{"id": documents.b64url(run.id), "chunks": run.chunks} for run in self.runs],
            "tree": documents.b64url(self.tree),
            "root": documents.b64url(self.root),
            "commitment": documents.b64url(self.commitment),
            "demo": self.demo,
        }


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """A manifest whose own owner signed it. Whether that is the right owner is for `admit` to say."""

    manifest: Manifest
    hash: bytes

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The manifest file. Raises MalformedDocument, SignatureRefused."""
        message = cose.Sign1.from_bytes(raw, limit=MAX_MANIFEST)
        manifest = Manifest.from_payload(message.payload)
        message.check(manifest.owner, CONTENT_TYPE)
        return cls(manifest, hashlib.sha256(raw).digest())

    def admit(self, secret: ReleasedSecret, now: float) -> None:
        """Raise unless `secret` was released for exactly this manifest of this owner, and still holds.

        ManifestRefused: another manifest or owner. SecretExpired. WrongKey: the commitment differs.
        """
        if self.manifest.owner.hash != secret.owner:
            found = self.manifest.owner.hash.hex()[:16]
            raise ManifestRefused(
                f"signed by owner {found}..., the key was released for {secret.owner.hex()[:16]}..."
            )
        if self.hash != secret.manifest:
            found, meant = self.hash.hex()[:16], secret.manifest.hex()[:16]
            raise ManifestRefused(
                f"manifest {found}..., version {self.manifest.version}, is not the one released ({meant}...)"
            )
        if now >= secret.not_after:
            raise SecretExpired(f"the key of {self.manifest.name} could be used until {secret.not_after}")
        check_commitment(secret.key, self.manifest.id, self.manifest.commitment)


def _kind(text: str) -> Kind:
    try:
        return Kind(text)
    except ValueError:
        raise MalformedDocument(f"manifest: kind is {text!r}, not one of {', '.join(Kind)}") from None


def _file(members: documents.Members) -> FileEntry:
    entry = FileEntry(members.text("path", limit=512), members.whole("size"))
    members.end()
    if not is_path(entry.path):
        raise MalformedDocument("manifest: a path leaves the artifact or cannot be shown")
    return entry


def _run(members: documents.Members) -> Run:
    run = Run(members.octets("id", RUN_ID), members.whole("chunks", 1))
    members.end()
    return run


def _tenants(members: documents.Members) -> tuple[str, ...]:
    return members.texts("tenants", limit=MAX_TENANTS, length=256)


def _check(manifest: Manifest) -> None:
    """What members must be to each other."""
    paths = [file.path for file in manifest.files]
    if not paths or paths != sorted(set(paths)):
        raise MalformedDocument("manifest: files are not at least one, sorted by path, each once")
    if manifest.kind is not Kind.DOCUMENTS and not all(map(loading_reads, paths)):
        raise MalformedDocument("manifest: holds a file that no model or adapter has")
    if (manifest.base is not None) != (manifest.kind is Kind.ADAPTER):
        raise MalformedDocument("manifest: an adapter names its base model, nothing else does")
    if not manifest.name.isprintable():
        raise MalformedDocument("manifest: the name cannot be shown")
    manifest.owner.key()
    _check_runs(manifest.runs, manifest.layout())


def _check_runs(runs: Sequence[Run], layout: Layout) -> None:
    if len({run.id for run in runs}) != len(runs):
        raise MalformedDocument("manifest: two runs have one id")
    if sum(run.chunks for run in runs) != layout.chunks or layout.chunks >= MAX_CHUNKS:
        raise MalformedDocument("manifest: the runs do not cover the chunks")
