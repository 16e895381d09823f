"""Sealing a directory: one pass over the files, a chunk at a time, in constant memory."""

import hashlib
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sealing import cose
from sealing.artifact import Kind, Layout, Manifest, SignedManifest, Tree, content_root
from sealing.artifact.chunks import key_commitment

from .errors import DiskFull
from .source import Source
from .workplace import Workplace, opened

CHUNK: Final = 1024 * 1024

Progress = Callable[[int, int], None]
"""Called with plaintext bytes done and in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealOrder:
    """What an owner wants sealed, and what the manifest shall say. See `Manifest` for the members."""

    directory: Path
    kind: Kind
    name: str
    owner: cose.SigningKey = field(repr=False)
    data_key: bytes = field(repr=False)
    base: bytes | None = None
    policy: bytes | None = None
    tenants: tuple[str, ...] | None = None
    demo: bool = False
    supersedes: Manifest | None = None
    chunk_size: int = CHUNK


@dataclass(frozen=True, slots=True)
class Sealed:
    """A finished artifact; `kept` of its chunks were there already, `left_out` files were not sealed."""

    signed: SignedManifest
    kept: int
    left_out: tuple[str, ...]


def seal(order: SealOrder, out: Path, progress: Progress = lambda done, total: None) -> Sealed:
    """Seal a directory to `out`, which then holds manifest, chunks and leaves.

    Started again after a crash or a full disk it keeps what is finished. Raises SourceRefused,
    TargetRefused, DiskFull.
    """
    with Source(order.directory, order.kind) as source:
        layout = Layout(source.files, order.chunk_size)
        old = order.supersedes
        with opened(out, layout, order.data_key, old.id if old else None) as workplace:
            _check_room(out, layout, workplace)
            tree, root, kept = _run(source, layout, workplace, progress)
            raw = _manifest(order, layout, workplace, tree, root).sign(order.owner)
            signed = SignedManifest.from_bytes(raw)
            workplace.finish(raw)
    return Sealed(signed, kept, source.left_out)


def _run(
    source: Source, layout: Layout, workplace: Workplace, progress: Progress
) -> tuple[bytes, bytes, int]:
    """Seal every chunk; returns the ciphertext's tree, the plaintext's root, and how many were kept."""
    tree, digests, kept, done = Tree(), {file.path: hashlib.sha256() for file in layout.files}, 0, 0
    buffer = memoryview(bytearray(layout.chunk_size))
    with ThreadPoolExecutor(1, "digest") as pool:
        for chunk in layout:
            plaintext = buffer[: chunk.size]
            source.read_into(chunk, plaintext)
            digested = pool.submit(digests[chunk.path].update, plaintext)
            leaf = workplace.finished(chunk, plaintext)
            kept += leaf is not None
            tree.add(workplace.seal(chunk, plaintext) if leaf is None else leaf)
            digested.result()
            done += chunk.size
            progress(done, layout.plaintext)
    return tree.root, content_root({path: digest.digest() for path, digest in digests.items()}), kept


def _manifest(order: SealOrder, layout: Layout, workplace: Workplace, tree: bytes, root: bytes) -> Manifest:
    return Manifest(
        id=workplace.artifact_id,
        name=order.name,
        version=order.supersedes.version + 1 if order.supersedes else 1,
        kind=order.kind,
        created=int(time.time()),
        owner=cose.Signer.of(order.owner),
        chunk_size=layout.chunk_size,
        files=layout.files,
        runs=workplace.runs(),
        tree=tree,
        root=root,
        commitment=key_commitment(order.data_key, workplace.artifact_id),
        demo=order.demo,
        base=order.base,
        policy=order.policy,
        tenants=order.tenants,
    )


def _check_room(out: Path, layout: Layout, workplace: Workplace) -> None:
    """A disk that is too small from the start is said so at the start."""
    missing = layout.ciphertext - (layout.chunk(workplace.kept - 1).offset if workplace.kept else 0)
    free = shutil.disk_usage(out).free
    if free < missing:
        raise DiskFull(f"{out} has {free} bytes free and {missing} more are needed; nothing was begun")
