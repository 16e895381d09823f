"""Documents by their place: found before the consent is judged, read once their key was released."""

from dataclasses import replace
from pathlib import Path

from sealing.artifact import Kind

from ..artifacts.sealed_files import ArtifactError
from ..artifacts.shelf import Found, Place, Shelf, find
from .shelf import Documents, Folder


def find_documents(name: str, place: Place) -> Found:
    """Documents that can be opened. Raises FilesError: nothing there, not signed, no documents."""
    if isinstance(place, Path):
        return Found(name, place, Documents.read(Folder(place)).root)
    return find(name, place, Kind.DOCUMENTS)


def open_documents(found: Found, shelf: Shelf) -> Documents:
    """What was found, read into memory. Blocks. Raises FilesError, release.ReleaseError.

    Unlike a model's, the root of sealed documents is not taken at its owner's word: it is hashed here.
    """
    if found.signed is None:
        documents = Documents.read(Folder(Path(found.place)))
    else:
        opened = shelf.open(found)
        with opened as files:
            documents = replace(Documents.read(files), not_after=opened.not_after)
    if documents.root != found.root:
        raise ArtifactError(f"documents {found.name} are not those with root {found.root.hex()[:16]}...")
    return documents
