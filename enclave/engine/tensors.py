"""safetensors files to tensors in secret memory: our own reading of the header, no path, no mapping.

The format: u64le length, a JSON object of that length {name: {dtype, shape, data_offsets}}, the data without
holes. Every tensor of a file becomes a view of the one piece of memory that the data was read into.
"""

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch

from enclave.gpu.cuda import Crossings, double_buffered

from ..files import ModelFiles
from ..memory import PROTECTED, Kind, SecretMemory
from .interface import ModelRefused

ANYWHERE = (*PROTECTED, Kind.UNLOCKED)
_ALIGNMENT = 64
_MAX_HEADER = 100_000_000
_LENGTH = 8
_METADATA = "__metadata__"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor of a file: `size` bytes from byte `start` of the file's data, which begins at `base`."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    size: int
    base: int


@dataclass(frozen=True, slots=True)
class Tensors:
    """Tensors by name. `memory` holds their bytes and must outlive them; None if they are on a device."""

    by_name: Mapping[str, torch.Tensor]
    memory: SecretMemory | None


def read_header(files: ModelFiles, name: str) -> list[Place]:
    """Where a file's tensors are, in order of their data. Raises ModelRefused, FilesError."""
    size = files.sizes.get(name, 0)
    prefix = bytearray(_LENGTH)
    if size < _LENGTH:
        raise _damaged(files, name, "it is shorter than its header")
    files.fill(name, 0, memoryview(prefix))
    length = int.from_bytes(prefix, "little")
    if length > min(size - _LENGTH, _MAX_HEADER):
        raise _damaged(files, name, f"its header claims {length} bytes")
    header = bytearray(length)
    files.fill(name, _LENGTH, memoryview(header))
    try:
        entries = json.loads(header.decode(), object_pairs_hook=_unique)
        places = [_place(key, entry, _LENGTH + length) for key, entry in entries.items() if key != _METADATA]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(files, name, f"its header is not valid: {error}") from None
    places.sort(key=lambda place: (place.start, place.size))
    ends = [place.start + place.size for place in places]
    if [place.start for place in places] != [0, *ends[:-1]][: len(places)]:
        raise _damaged(files, name, "its tensors overlap or leave holes")
    if _LENGTH + length + (ends[-1] if ends else 0) != size:
        raise _damaged(files, name, "it is longer or shorter than its tensors")
    return places


def load_tensors(
    files: ModelFiles,
    names: Iterable[str],
    *,
    dtype: torch.dtype,
    device: str = "cpu",
    kinds: tuple[Kind, ...] = ANYWHERE,
) -> Tensors:
    """All tensors of these files, floating ones in `dtype`. Raises ModelRefused, FilesError.

    Nothing is copied on the way where the file's dtype is `dtype` already and the device is the CPU.
    """
    headers = {name: read_header(files, name) for name in names}
    twice = _repeated(place.name for places in headers.values() for place in places)
    if twice:
        raise ModelRefused(f"{files.label} has tensor {twice[0]} more than once")
    if device != "cpu":
        return Tensors(_to_device(files, headers, dtype, device), None)
    sizes = [sum(_room(place, dtype) for place in places) for places in headers.values()]
    memory = SecretMemory(max(1, sum(sizes)), kinds=kinds)
    tensors: dict[str, torch.Tensor] = {}
    for (name, places), end in zip(headers.items(), itertools.accumulate(sizes), strict=True):
        size = sum(_room(place, dtype) for place in places)
        part = memory.buffer[end - size : end]
        if _fits_as_it_is(places, dtype):
            tensors |= _fill_whole(files, name, places, part)
        else:
            tensors |= _fill_each(files, name, places, part, dtype)
    return Tensors(tensors, memory)


def check_finite(files: ModelFiles, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ModelRefused naming the first tensor that holds NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelRefused(f"{files.label}: tensor {name} holds NaN or infinity: the weights are damaged")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def _place(name: str, entry: Mapping[str, Any], base: int) -> Place:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"tensor {name} has dtype {entry['dtype']}, which is not supported")
    dtype, shape, (start, stop) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if not all(type(number) is int and 0 <= number < 2**63 for number in (*shape, start, stop)):
        raise ValueError(f"tensor {name} has a shape or offset that is no whole number")
    if stop - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"tensor {name} has a shape that does not fit its bytes")
    return Place(name, dtype, tuple(shape), start, stop - start, base)


def _damaged(files: ModelFiles, name: str, why: str) -> ModelRefused:
    return ModelRefused(f"{files.label}: {name} is not a safetensors file: {why}")


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]


def _kept(place: Place, dtype: torch.dtype) -> torch.dtype:
    return dtype if place.dtype.is_floating_point else place.dtype


def _room(place: Place, dtype: torch.dtype) -> int:
    size = math.prod(place.shape) * _kept(place, dtype).itemsize
    return _aligned(size)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _fits_as_it_is(places: list[Place], dtype: torch.dtype) -> bool:
    return all(
        place.dtype == _kept(place, dtype) and place.start % place.dtype.itemsize == 0 for place in places
    )


def _fill_whole(
    files: ModelFiles, name: str, places: list[Place], part: memoryview
) -> dict[str, torch.Tensor]:
    if not places:
        return {}
    files.fill(name, places[0].base, part[: places[-1].start + places[-1].size])
    return {place.name: _view(part[place.start :], place.dtype, place) for place in places}


def _fill_each(
    files: ModelFiles, name: str, places: list[Place], part: memoryview, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    tensors, at = {}, 0
    with SecretMemory(max([1, *(place.size for place in places)]), kinds=ANYWHERE) as scratch:
        for place in places:
            files.fill(name, place.base + place.start, scratch.buffer[: place.size])
            tensors[place.name] = _view(part[at:], _kept(place, dtype), place)
            tensors[place.name].copy_(_view(scratch.buffer, place.dtype, place))
            at += _room(place, dtype)
    return tensors


def _to_device(
    files: ModelFiles, headers: Mapping[str, list[Place]], dtype: torch.dtype, device: str
) -> dict[str, torch.Tensor]:
    """Through two scratch buffers on the host, which are erased: one is filled while the other crosses."""
    wanted = [(name, place) for name, places in headers.items() for place in places]
    largest = _aligned(max([1, *(place.size for _, place in wanted)]))
    with (
        SecretMemory(2 * largest, kinds=ANYWHERE) as scratch,
        Crossings(device) as crossings,
    ):

        def fill(index: int, half: int) -> Future[torch.Tensor]:
            (name, place), buffer = wanted[index], scratch.buffer[half * largest :]
            files.fill(name, place.base + place.start, buffer[: place.size])
            return crossings.to_device(_view(buffer, place.dtype, place), _kept(place, dtype))

        tensors = double_buffered(fill, len(wanted))
        return {place.name: tensor for (_, place), tensor in zip(wanted, tensors, strict=True)}


def _view(memory: memoryview, dtype: torch.dtype, place: Place) -> torch.Tensor:
    if 0 in place.shape:
        return torch.empty(place.shape, dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=math.prod(place.shape)).view(place.shape)
