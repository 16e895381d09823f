"""Artifacts that owners send over the sealed channel. Only ciphertext that an admitted owner signed is kept.

An upload is a folder named by the manifest hash. Its manifest comes first, then the leaves, which must make
the tree that the manifest signs, then the chunks in order, each held against its leaf. The manifest gets its
final name last: until then nothing takes the folder for an artifact.
"""

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from sealing.artifact import CHUNKS_NAME, LEAVES_NAME, MANIFEST_NAME, Layout, SignedManifest, Tree, leaf
from sealing.artifact.tree import DIGEST
from sealing.errors import SealingError

PART: Final = ".part"
MAX_PIECE: Final = 1024 * 1024
SPARE: Final = 64 * 1024 * 1024
"""Bytes that stay free on the disk."""


class UploadRefused(Exception):
    """What was sent is not kept; the message says why."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload is, in bytes of chunks; `leaves` if those are still missing."""

    have: int
    total: int
    leaves: bool

    def to_json(self) -> dict[str, int | bool]:
        """As the API says it."""
        return {
            "have": self.have,
            "total": self.total,
            "leaves": self.leaves,
            "complete": self.have == self.total and not self.leaves,
        }


class Uploads:
    """A directory of uploads by `owners`: SHA-256 of their keys. One caller at a time."""

    def __init__(self, directory: Path, owners: Collection[bytes]) -> None:
        self._directory = directory
        self._owners = frozenset(owners)

    def begin(self, raw: bytes) -> str:
        """Take a manifest; the upload's name. Raises UploadRefused."""
        try:
            signed = SignedManifest.from_bytes(raw)
        except SealingError as error:
            raise UploadRefused(str(error)) from None
        if signed.manifest.owner.hash not in self._owners:
            raise UploadRefused("this worker takes no uploads of that owner")
        folder = self._directory / signed.hash.hex()
        if not folder.is_dir():
            needed = signed.manifest.layout().ciphertext + len(raw)
            if shutil.disk_usage(self._directory).free < needed + SPARE:
                raise UploadRefused(f"there is no room for {needed} bytes")
            folder.mkdir()
        if not (folder / MANIFEST_NAME).exists():
            _write(folder, MANIFEST_NAME + PART, raw)
        return signed.hash.hex()

    def progress(self, name: str) -> Progress:
        """Where to go on. Raises UploadRefused for an upload that was never begun."""
        folder, layout = self._folder(name), self._signed(name).manifest.layout()
        have = _size(folder / CHUNKS_NAME)
        return Progress(have, layout.ciphertext, not (folder / LEAVES_NAME).exists())

    def take_leaves(self, name: str, raw: bytes) -> None:
        """Take all leaves. Raises UploadRefused unless they make the signed tree."""
        manifest, tree = self._signed(name).manifest, Tree()
        for place in range(0, len(raw), DIGEST):
            tree.add(raw[place : place + DIGEST])
        if len(raw) != manifest.layout().chunks * DIGEST or tree.root != manifest.tree:
            raise UploadRefused("these leaves do not make the tree that the manifest signs")
        _write(self._folder(name), LEAVES_NAME, raw)

    def take(self, name: str, offset: int, piece: bytes) -> Progress:
        """Append a piece of the chunks at `offset`, which must be the end of what is there.

        Every chunk that it completes is held against its leaf; if one differs, the upload goes back to that
        chunk's beginning. Raises UploadRefused.
        """
        before = self.progress(name)
        if before.leaves:
            raise UploadRefused("send the leaves first")
        if offset != before.have:
            raise UploadRefused(f"{before.have} bytes are here: go on from there, not from {offset}")
        if len(piece) > MAX_PIECE or offset + len(piece) > before.total:
            raise UploadRefused(f"at most {MAX_PIECE} bytes at once, {before.total} in all")
        folder, layout = self._folder(name), self._signed(name).manifest.layout()
        with os.fdopen(_open(folder, CHUNKS_NAME, os.O_RDWR | os.O_CREAT), "r+b") as file:
            try:
                file.seek(offset)
                file.write(piece)
                file.flush()
            except OSError as error:
                os.ftruncate(file.fileno(), offset)
                raise UploadRefused(f"the piece could not be written: {error.strerror}") from None
            self._check(folder, file, layout, offset, offset + len(piece))
        after = self.progress(name)
        if after.have == after.total and (folder / (MANIFEST_NAME + PART)).exists():
            (folder / (MANIFEST_NAME + PART)).replace(folder / MANIFEST_NAME)
        return after

    def find(self, artifact: bytes) -> Path | None:
        """The newest complete upload of an artifact, by its id."""
        newest: tuple[int, Path] | None = None
        for folder in self._directory.iterdir():
            if _is_name(folder.name) and (folder / MANIFEST_NAME).is_file():
                manifest = self._signed(folder.name).manifest
                if manifest.id == artifact and (newest is None or manifest.version > newest[0]):
                    newest = manifest.version, folder
        return newest[1] if newest else None

    def _check(self, folder: Path, file: BinaryIO, layout: Layout, start: int, end: int) -> None:
        leaves = (folder / LEAVES_NAME).read_bytes()
        for counter in range(layout.at(start), layout.chunks):
            chunk = layout.chunk(counter)
            if chunk.offset + chunk.length > end:
                return
            file.seek(chunk.offset)
            if leaf(file.read(chunk.length)) != leaves[counter * DIGEST :][:DIGEST]:
                os.ftruncate(file.fileno(), chunk.offset)
                raise UploadRefused(f"chunk {counter} ({chunk.path}) is not the one that was signed")

    def _folder(self, name: str) -> Path:
        if not _is_name(name):
            raise UploadRefused("an upload is named by its manifest's hash, 64 hexadecimal digits")
        folder = self._directory / name
        if not folder.is_dir():
            raise UploadRefused("no such upload was begun: send its manifest first")
        return folder

    def _signed(self, name: str) -> SignedManifest:
        folder = self._folder(name)
        for place in (folder / MANIFEST_NAME, folder / (MANIFEST_NAME + PART)):
            if place.is_file():
                try:
                    return SignedManifest.from_bytes(place.read_bytes())
                except SealingError as error:
                    raise UploadRefused(f"the manifest on this worker's disk was altered: {error}") from None
        raise UploadRefused("no such upload was begun: send its manifest first")


def _open(folder: Path, name: str, flags: int) -> int:
    """A file in an upload's folder. No link is followed: the disk is the operator's, and owners choose what
    is written, so a link could have the worker write anything anywhere. Raises UploadRefused."""
    try:
        within = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=within)
        finally:
            os.close(within)
    except OSError as error:
        raise UploadRefused(f"{name} cannot be written here: {error.strerror}") from None


def _write(folder: Path, name: str, content: bytes) -> None:
    try:
        with os.fdopen(_open(folder, name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(content)
    except OSError as error:
        raise UploadRefused(f"{name} could not be written: {error.strerror}") from None


def _is_name(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
