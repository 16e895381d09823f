"""Hunting for one's own secrets in what somebody else has: 8-byte windows, as they are or in hexadecimal."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

WINDOW = 8
FLAT = 3
"""Windows of so few different bytes, such as runs of zeros, are everywhere and tell nothing."""
FEW = 20_000
"""So many windows are also looked for in hexadecimal, which is slower."""

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Hunt:
    """How many windows of a secret there are, and how many were found."""

    windows: int
    found: int


def hunt(secrets: Iterable[bytes], haystack: bytes, *, step: int = 1) -> Hunt:
    """Look for every `step`th window of 8 bytes of every secret anywhere in `haystack`."""
    windows = np.unique(np.concatenate([_windows(secret)[::step] for secret in secrets]))
    telling = windows[_distinct(windows) > FLAT]
    found = _among(telling, np.sort(_windows(haystack)))
    if len(telling) <= FEW:
        lower = haystack.lower()
        written = [int(word).to_bytes(8, "little").hex().encode() in lower for word in telling]
        found |= np.array(written, dtype=bool)
    return Hunt(len(telling), int(found.sum()))


def _among(wanted: Words, ordered: Words) -> npt.NDArray[np.bool_]:
    """Which of `wanted` occur in `ordered`."""
    if not len(ordered):
        return np.zeros(len(wanted), dtype=bool)
    places = np.searchsorted(ordered, wanted).clip(max=len(ordered) - 1)
    found: npt.NDArray[np.bool_] = np.equal(ordered[places], wanted)
    return found


def _distinct(windows: Words) -> npt.NDArray[np.int64]:
    """How many different bytes each window has."""
    octets = np.sort(windows.view(np.uint8).reshape(-1, WINDOW), axis=1)
    changes: npt.NDArray[np.int64] = (octets[:, 1:] != octets[:, :-1]).sum(axis=1)
    return changes + 1


def _windows(data: bytes) -> Words:
    """Every run of 8 bytes, wherever it begins, as a number."""
    padded = np.frombuffer(data, np.uint8)
    if len(padded) < WINDOW:
        return np.empty(0, np.uint64)
    parts = [np.frombuffer(data[i : i + (len(data) - i) // 8 * 8], "<u8") for i in range(WINDOW)]
    return np.concatenate(parts).astype(np.uint64)


def read_all(folder: Path, limit: int = 512 * 1024 * 1024) -> bytes:
    """The content of every file below `folder`, one after the other."""
    parts, size = [], 0
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            parts.append(path.read_bytes())
            size += len(parts[-1])
            if size > limit:
                break
    return b"\n".join(parts)
