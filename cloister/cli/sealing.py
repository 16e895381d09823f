"""`cloister seal`, `cloister owner-key`: what a person typed, into an order; progress and what comes next."""

import hashlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import typer

from attestation import ExitCode
from client.artifacts import keys
from client.artifacts.errors import KeyFileError, NotAsSealed, SourceRefused, TargetRefused
from client.artifacts.seal import CHUNK, SealOrder, seal
from client.artifacts.source import kind_of
from client.artifacts.verify import read_manifest, verify
from sealing.artifact import MANIFEST_NAME, Kind, Manifest, SignedManifest

NEW = "new"
PASSPHRASE = "CLOISTER_OWNER_PASSPHRASE"  # noqa: S105
_SHOWN_EVERY = 2.0


def new_key(file: Path, *, p384: bool) -> None:
    """Make a signing key and its public half."""
    signer = keys.new_owner_key(file, p384=p384, passphrase=passphrase())
    typer.echo(f"{file}: keep it secret\n{file}.pub: give it away\nowner {signer.hash.hex()}")


def show_key(file: Path) -> None:
    """Print an owner key hash."""
    typer.echo(keys.read_signer(file, passphrase=passphrase()).hash.hex())


@dataclass(frozen=True, slots=True, kw_only=True)
class SealWords:
    """What a person typed."""

    directory: Path
    owner: Path
    out: Path
    data_key: str
    kind: str | None
    name: str | None
    base: str | None
    policy: Path | None
    tenants: list[str]
    demo: bool
    supersedes: Path | None
    chunk_size: int | None

    def order(self) -> SealOrder:
        """The order; OwnerError names the word that does not fit."""
        kind = _kind(self.kind) if self.kind else kind_of(self.directory)
        owner = keys.read_owner_key(self.owner, passphrase=passphrase())
        old = read_manifest(self.supersedes).manifest if self.supersedes else None
        return SealOrder(
            directory=self.directory,
            kind=kind,
            name=self.name or self.directory.resolve().name,
            owner=owner,
            data_key=self._data_key(),
            base=_base(self.base, kind),
            policy=None if self.policy is None else hashlib.sha256(_read(self.policy)).digest(),
            tenants=tuple(sorted(set(self.tenants))) or None,
            demo=self.demo,
            supersedes=old,
            chunk_size=self.chunk_size or CHUNK,
        )

    @property
    def key_file(self) -> Path:
        """Where the data key lies, or is put."""
        return self.out.with_name(self.out.name + ".key") if self.data_key == NEW else Path(self.data_key)

    def _data_key(self) -> bytes:
        """The data key; the new one of an earlier try, if that did not come to its end."""
        if self.data_key != NEW:
            return keys.read_data_key(self.key_file)
        if (self.out / MANIFEST_NAME).exists():
            raise TargetRefused(f"{self.out} holds a sealed artifact already: choose another --out")
        if self.key_file.exists():
            return keys.read_data_key(self.key_file)
        self.key_file.parent.mkdir(parents=True, exist_ok=True)
        return keys.new_data_key(self.key_file)


def run(words: SealWords) -> int:
    """Seal, and say what comes next; 0."""
    order = words.order()
    sealed = seal(order, words.out, show_progress("sealed"))
    for name in sealed.left_out:
        sys.stderr.write(f"left out: {name} (loading reads no such file)\n")
    if sealed.kept:
        sys.stderr.write(f"{sealed.kept} chunks were finished already\n")
    _describe(sealed.signed)
    typer.echo(f"data key   {words.key_file} (keep it secret; a key broker needs it)")
    return ExitCode.ACCEPTED


def check(directory: Path, owner: Path | None) -> int:
    """Verify without a key; 0, or NotAsSealed."""
    signed = verify(directory, show_progress("verified"))
    if owner is not None and keys.read_signer(owner).hash != signed.manifest.owner.hash:
        raise NotAsSealed(f"{directory} is signed by {signed.manifest.owner.hash.hex()}, not by {owner}")
    _describe(signed)
    word = "as its owner sealed it" if owner else "as the owner above sealed it; name yours with --owner"
    typer.echo(word)
    return ExitCode.ACCEPTED


def _describe(signed: SignedManifest) -> None:
    manifest = signed.manifest
    lines = [
        ("artifact", f"{manifest.name} ({manifest.kind}), version {manifest.version}"),
        ("id", manifest.id.hex()),
        ("owner", manifest.owner.hash.hex()),
        ("manifest", signed.hash.hex()),
        ("resource", manifest.resource),
        ("root", manifest.root.hex()),
        ("base", manifest.base.hex() if manifest.base else ""),
        ("policy", manifest.policy.hex() if manifest.policy else ""),
        ("tenants", ", ".join(manifest.tenants or ())),
        ("demo", "yes: simulated workers may get it" if manifest.demo else ""),
        ("size", _size(manifest)),
    ]
    for name, text in lines:
        if text:
            typer.echo(f"{name:<10} {text}")


def _size(manifest: Manifest) -> str:
    layout = manifest.layout()
    return f"{layout.plaintext} bytes in {len(layout.files)} files, {layout.chunks} chunks"


def show_progress(word: str) -> Callable[[int, int], None]:
    """A line that is rewritten on a terminal, and otherwise written every tenth."""
    terminal, last = sys.stderr.isatty(), [time.monotonic(), 0.0]

    def show(done: int, total: int) -> None:
        now, share = time.monotonic(), done / total if total else 1.0
        due = now - last[0] >= (0.1 if terminal else _SHOWN_EVERY)
        if not due and (done < total or not terminal):
            return
        last[0] = now
        end = "\r" if terminal and done < total else "\n"
        sys.stderr.write(f"{word} {done / 1e6:,.0f} of {total / 1e6:,.0f} MB ({share:.0%}){end}")
        sys.stderr.flush()

    return show


def _kind(word: str) -> Kind:
    try:
        return Kind(word)
    except ValueError:
        raise SourceRefused(f"--kind {word!r} is not one of {', '.join(Kind)}") from None


def _base(word: str | None, kind: Kind) -> bytes | None:
    """A content root: in hexadecimal, of a sealed model, or of a plain model's directory."""
    if kind is not Kind.ADAPTER:
        if word is not None:
            raise SourceRefused(f"--base is for adapters; this is a {kind}")
        return None
    if word is None:
        raise SourceRefused("an adapter needs --base: its model's directory, sealed directory, or root")
    if (Path(word) / MANIFEST_NAME).is_file():
        return read_manifest(Path(word)).manifest.root
    if Path(word).is_dir():
        from enclave.model_files import model_root

        return model_root(Path(word))
    try:
        root = bytes.fromhex(word)
    except ValueError:
        root = b""
    if len(root) != 32:
        raise SourceRefused(f"--base {word!r} is neither a directory nor a root of 64 hexadecimal digits")
    return root


def passphrase() -> bytes | None:
    """What owners' keys are encrypted with, from the environment; None if they are not."""
    return os.environ[PASSPHRASE].encode() if os.environ.get(PASSPHRASE) else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
