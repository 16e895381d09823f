"""The binding is the design's, byte for byte: computed here a second time, from its text alone."""

import hashlib

import pytest

from attestation.binding import gpu_nonce, report_data

N = bytes(range(32))


def field(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def test_report_data_is_as_designed() -> None:
    devices = [(b"nvidia-gpu", b"report 0", b"chain 0"), (b"nvidia-gpu", b"report 1", b"")]
    inner = hashlib.sha256(b"".join(field(part) for device in devices for part in device)).digest()
    k, s, w = (hashlib.sha256(x).digest() for x in (b"keyset", b"session", b"workload"))
    text = b"cloister/report-data/v1" + field(N) + field(k) + field(s) + field(inner) + field(w)
    expected = hashlib.sha384(text).digest() + bytes(16)
    assert report_data(N, b"keyset", b"session", devices, b"workload") == expected


def test_gpu_nonce_is_as_designed() -> None:
    k, s = hashlib.sha256(b"keyset").digest(), hashlib.sha256(b"").digest()
    text = b"cloister/gpu-nonce/v1" + field(N) + field(k) + field(s) + (3).to_bytes(4, "big")
    assert gpu_nonce(N, b"keyset", b"", 3) == hashlib.sha256(text).digest()


@pytest.mark.parametrize("part", range(5))
def test_every_part_changes_report_data(part: int) -> None:
    parts: list[object] = [N, b"k", b"s", [(b"nvidia-gpu", b"r", b"c")], b"w"]
    other: list[object] = [bytes(32), b"K", b"S", [(b"nvidia-gpu", b"r", b"C")], b"W"]
    changed = [*parts[:part], other[part], *parts[part + 1 :]]
    assert report_data(*parts) != report_data(*changed)  # type: ignore[arg-type]


def test_borders_between_device_parts_count() -> None:
    one = report_data(N, b"", b"", [(b"nvidia-gpu", b"ab", b"c")], b"")
    other = report_data(N, b"", b"", [(b"nvidia-gpu", b"a", b"bc")], b"")
    assert one != other


def test_a_nonce_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        report_data(b"short", b"", b"", [], b"")
    with pytest.raises(ValueError, match="32"):
        gpu_nonce(b"x" * 33, b"", b"", 0)
