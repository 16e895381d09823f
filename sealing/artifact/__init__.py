"""Sealed artifacts: models, adapters and documents at rest, encrypted and signed by their owner. No IO."""

from .chunks import RunCipher, check_commitment, key_commitment
from .contents import Kind, content_root, loading_reads
from .layout import CHUNKS_NAME, LEAVES_NAME, MANIFEST_NAME, TAG, Chunk, FileEntry, Layout
from .manifest import MAX_MANIFEST, Manifest, Run, SignedManifest
from .opening import ChunkOpener
from .secret import ReleasedSecret
from .tree import Tree, leaf

__all__ = [
    "CHUNKS_NAME",
    "LEAVES_NAME",
    "MANIFEST_NAME",
    "MAX_MANIFEST",
    "TAG",
    "Chunk",
    "ChunkOpener",
    "FileEntry",
    "Kind",
    "Layout",
    "Manifest",
    "ReleasedSecret",
    "Run",
    "RunCipher",
    "SignedManifest",
    "Tree",
    "check_commitment",
    "content_root",
    "key_commitment",
    "leaf",
    "loading_reads",
]
