"""Our reading of safetensors: what the reference library writes and reads we read alike, nothing else."""

import json
import math
import struct
from collections.abc import Iterator, Mapping

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.engine.interface import ModelRefused
from enclave.engine.tensors import check_finite, load_tensors
from enclave.files import FilesError


class Bytes:
    """One file in memory. Implements `ModelFiles`."""

    label = "these bytes"

    def __init__(self, content: bytes) -> None:
        self.content = content

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"x": len(self.content)}

    def read(self, name: str) -> bytes:
        return self.content

    def chunks(self, name: str) -> Iterator[memoryview]:
        yield memoryview(self.content)

    def fill(self, name: str, offset: int, into: memoryview) -> None:
        if offset + len(into) > len(self.content):
            raise FilesError("too short")
        into[:] = self.content[offset : offset + len(into)]


def read(content: bytes, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    tensors = load_tensors(Bytes(content), ["x"], dtype=dtype)
    return {name: tensor.clone() for name, tensor in tensors.by_name.items()}  # the memory is erased here


def header(entries: object, data: bytes = b"") -> bytes:
    raw = json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw + data


DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool]
TENSOR = st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=3))


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.text(min_size=1, max_size=8), TENSOR, max_size=5),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_what_the_library_writes_is_read_and_converted(
    wanted: dict[str, tuple[torch.dtype, list[int]]], dtype: torch.dtype
) -> None:
    made = {name: (torch.rand(shape) * 9).to(kind) for name, (kind, shape) in wanted.items()}
    made.pop("__metadata__", None)
    found = read(safetensors.torch.save(made), dtype)
    assert found.keys() == made.keys()
    for name, tensor in made.items():
        aim = tensor.to(dtype) if tensor.is_floating_point() else tensor
        assert found[name].dtype == aim.dtype
        assert torch.equal(found[name], aim)


VALID = header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(8))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_file_is_refused_or_read_as_the_library_reads_it(data: st.DataObject) -> None:
    content = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    raw = bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        found = read(raw)
    except ModelRefused:
        return
    theirs = safetensors.torch.load(raw)
    assert found.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert found[name].shape == tensor.shape


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
_TWICE = b"{%b, %b}" % ((json.dumps({"a": ENTRY})[1:-1].encode(),) * 2)
BAD = {
    "nothing": b"",
    "a header longer than the file": struct.pack("<Q", 99) + b"{}",
    "a header of many gigabytes": struct.pack("<Q", 2**63),
    "no JSON": struct.pack("<Q", 2) + b"{{",
    "a list": header([]),
    "a name twice": struct.pack("<Q", len(_TWICE)) + _TWICE + bytes(8),
    "a hole": header({"a": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12)),
    "an overlap": header({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12)),
    "a tail": header({"a": ENTRY}, bytes(9)),
    "too little data": header({"a": ENTRY}, bytes(7)),
    "a shape of another size": header({"a": {**ENTRY, "shape": [3]}}, bytes(8)),
    "a negative shape": header({"a": {**ENTRY, "shape": [-1, -2]}}, bytes(8)),
    "a shape that is no number": header({"a": {**ENTRY, "shape": [True, 2]}}, bytes(8)),
    "an unknown dtype": header({"a": {**ENTRY, "dtype": "F4"}}, bytes(8)),
    "offsets the wrong way": header({"a": {**ENTRY, "data_offsets": [8, 0]}}, bytes(8)),
    "no offsets": header({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
    "deep nesting": struct.pack("<Q", 200_000) + b"[" * 200_000,
}


@pytest.mark.parametrize("case", BAD)
def test_each_malformed_file_is_refused(case: str) -> None:
    with pytest.raises(ModelRefused, match="x is not a safetensors file"):
        read(BAD[case])


def test_one_name_in_two_files_is_refused() -> None:
    with pytest.raises(ModelRefused, match="more than once"):
        load_tensors(TwoFiles(VALID), ["x", "y"], dtype=torch.float32)


class TwoFiles(Bytes):
    @property
    def sizes(self) -> Mapping[str, int]:
        return {"x": len(self.content), "y": len(self.content)}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused_by_name(value: float) -> None:
    files = Bytes(safetensors.torch.save({"fine": torch.ones(3), "hurt": torch.tensor([1.0, value])}))
    tensors = load_tensors(files, ["x"], dtype=torch.float32)
    with pytest.raises(ModelRefused, match="tensor hurt holds"):
        check_finite(files, tensors.by_name)
