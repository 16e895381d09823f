"""What is to be loaded: found by its place, named by its root, opened once its key was released."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from attestation import LoadedModel
from sealing.artifact import Kind, ReleasedSecret, SignedManifest

from ..files import DirectoryFiles, FilesError, ModelFiles
from ..model_files import model_root
from .sealed_files import ArtifactError, SealedFiles, read_signed
from .stores import is_sealed, store_at

Place = Path | str
"""A directory of plain files, or the address of a sealed artifact (`stores.store_at`)."""
_NAME: Final = re.compile(r"[A-Za-z0-9._:/-]{1,64}")


class Releaser(Protocol):
    """Gets the key of an artifact from where its owner keeps it."""

    def __call__(self, signed: SignedManifest) -> ReleasedSecret:
        """The secret, after this worker proved itself. Blocks. Raises release.ReleaseError."""


@dataclass(frozen=True, slots=True)
class Found:
    """A model or adapter that can be loaded; so far only its signature was looked at."""

    name: str
    place: Place
    root: bytes
    signed: SignedManifest | None = None

    @property
    def loaded(self) -> LoadedModel:
        """As the workload lists it: a sealed one's root is its owner's statement, who stands beside it."""
        owner = self.signed.manifest.owner.hash.hex() if self.signed else ""
        return LoadedModel(name=self.name, root=self.root, owner=owner)

    @property
    def tenants(self) -> tuple[str, ...] | None:
        """Who may use it; None for everybody."""
        return self.signed.manifest.tenants if self.signed else None


@dataclass(slots=True)
class Opened:
    """Files that can be read, and until when what is loaded from them may stay: Unix seconds, None for ever.

    A context: leaving it forgets the key and erases what was decrypted on the way.
    """

    files: ModelFiles
    not_after: int | None = None

    def __enter__(self) -> ModelFiles:
        return self.files

    def __exit__(self, *_: object) -> None:
        if isinstance(self.files, SealedFiles):
            self.files.close()


def name_fault(name: str) -> str | None:
    """What is wrong with the name under which something is to be loaded, or None."""
    if _NAME.fullmatch(name):
        return None
    return f"{name!r} is not a name: 1 to 64 of letters, digits, . _ : / -"


def place_of(text: str) -> Place:
    """What a person or a configuration calls a place."""
    return text if is_sealed(text) else Path(text)


def find(name: str, place: Place, kind: Kind) -> Found:
    """What lies at `place`. Raises FilesError: nothing there, not signed, not of this kind."""
    if isinstance(place, Path):
        try:
            return Found(name, place, model_root(place))
        except OSError as error:
            raise FilesError(f"{place}: {error.strerror}") from None
    store = store_at(place)
    try:
        signed = read_signed(store)
    finally:
        store.close()
    if signed.manifest.kind is not kind:
        raise ArtifactError(f"{store.label} holds {_a(signed.manifest.kind)}, not {_a(kind)}")
    return Found(name, place, signed.manifest.root, signed)


class Shelf:
    """Opens what was found. `releaser` gets keys; without one nothing sealed is opened."""

    def __init__(self, releaser: Releaser | None, clock: Callable[[], float] = time.time) -> None:
        self._releaser = releaser
        self._clock = clock

    def open(self, found: Found, base: bytes | None = None) -> Opened:
        """The files of what was found; `base` is the root of the model that is loaded, for an adapter.

        Raises FilesError, release.ReleaseError; nothing stays open then.
        """
        if found.signed is None:
            return Opened(DirectoryFiles(Path(found.place)))
        manifest = found.signed.manifest
        if manifest.base is not None and manifest.base != base:
            raise ArtifactError(
                f"adapter {found.name} is for the model with root {manifest.base.hex()[:16]}..., "
                f"loaded is {base.hex()[:16] + '...' if base else 'none'}"
            )
        if self._releaser is None:
            raise ArtifactError(f"{found.name} is sealed: name its key broker with --broker")
        secret = self._releaser(found.signed)
        store = store_at(str(found.place))
        try:
            files = SealedFiles(store, found.signed, secret, self._clock())
        except BaseException:
            store.close()
            raise
        return Opened(files, secret.not_after)


def _a(kind: Kind) -> str:
    return {Kind.MODEL: "a model", Kind.ADAPTER: "an adapter", Kind.DOCUMENTS: "documents"}[kind]
