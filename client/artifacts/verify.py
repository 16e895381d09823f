"""Keyless verification: the owner's signature, the size, and the tree over every byte of ciphertext."""

import os
from collections.abc import Callable
from pathlib import Path

from sealing.artifact import (
    CHUNKS_NAME,
    LEAVES_NAME,
    MANIFEST_NAME,
    MAX_MANIFEST,
    Chunk,
    SignedManifest,
    Tree,
    leaf,
)
from sealing.artifact.tree import DIGEST
from sealing.errors import MalformedDocument, SignatureRefused

from .errors import NotAsSealed

Progress = Callable[[int, int], None]


def read_manifest(directory: Path) -> SignedManifest:
    """The manifest of a sealed directory, signed by the owner whom it names. Raises NotAsSealed."""
    try:
        with (directory / MANIFEST_NAME).open("rb") as file:
            return SignedManifest.from_bytes(file.read(MAX_MANIFEST + 1))
    except FileNotFoundError:
        raise NotAsSealed(
            f"{directory} has no {MANIFEST_NAME}: not a sealed artifact, or not finished"
        ) from None
    except OSError as error:
        raise NotAsSealed(f"{directory / MANIFEST_NAME}: {error.strerror}") from None
    except (MalformedDocument, SignatureRefused) as error:
        raise NotAsSealed(f"{directory / MANIFEST_NAME}: {error}") from None


def verify(directory: Path, progress: Progress = lambda done, total: None) -> SignedManifest:
    """The manifest, after every byte of ciphertext was checked against it. Needs no key.

    Raises NotAsSealed naming the first chunk that differs.
    """
    signed = read_manifest(directory)
    layout = signed.manifest.layout()
    trusted = _leaves(directory, layout.chunks, signed.manifest.tree)
    tree, buffer = Tree(), memoryview(bytearray(layout.chunk_size + 16))
    try:
        with (directory / CHUNKS_NAME).open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            for chunk in layout:
                ciphertext = _ciphertext(file.fileno(), chunk, buffer)
                found = leaf(ciphertext)
                if trusted is not None and found != trusted[chunk.counter * DIGEST :][:DIGEST]:
                    raise NotAsSealed(f"chunk {chunk.counter} ({chunk.path}) is not the one that was sealed")
                tree.add(found)
                progress(chunk.offset + chunk.length, layout.ciphertext)
    except OSError as error:
        raise NotAsSealed(f"{directory / CHUNKS_NAME}: {error.strerror}") from None
    if size != layout.ciphertext:
        raise NotAsSealed(f"{CHUNKS_NAME} has {size} bytes where {layout.ciphertext} belong")
    if tree.root != signed.manifest.tree:
        raise NotAsSealed(
            f"a chunk was altered; {LEAVES_NAME}, which would name it, is missing or altered too"
        )
    if trusted is None:
        raise NotAsSealed(f"{LEAVES_NAME} is missing or altered; every chunk is as it was sealed")
    return signed


def _ciphertext(descriptor: int, chunk: Chunk, buffer: memoryview) -> memoryview:
    ciphertext = buffer[: chunk.length]
    if os.preadv(descriptor, [ciphertext], chunk.offset) != chunk.length:
        raise NotAsSealed(
            f"chunk {chunk.counter} ({chunk.path}) is cut off: the file {CHUNKS_NAME} ends there"
        )
    return ciphertext


def _leaves(directory: Path, count: int, root: bytes) -> memoryview | None:
    """The leaf hashes if they are those that were signed, else None."""
    try:
        with (directory / LEAVES_NAME).open("rb") as file:
            raw = file.read(count * DIGEST + 1)
    except OSError:
        return None
    tree = Tree()
    for place in range(0, len(raw), DIGEST):
        tree.add(raw[place : place + DIGEST])
    return memoryview(raw) if len(raw) == count * DIGEST and tree.root == root else None
