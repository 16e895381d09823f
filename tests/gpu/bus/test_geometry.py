"""Where things lie: apart from each other, inside the memory."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave.gpu.bus.geometry import LEAD, LINE, PAGE, TAG, WORD, Cell, Class, Geometry, Side, cell
from enclave.gpu.bus.host import Bus, described

GEOMETRIES = st.builds(
    lambda cs, cb, bs, bb: Geometry(
        control_slots=1 << cs, control_bytes=cb, bulk_slots=1 << bs, bulk_bytes=bb
    ),
    st.integers(1, 8),
    st.integers(64, 9000),
    st.integers(1, 4),
    st.integers(64, 200_000),
)


@given(GEOMETRIES)
def test_slots_do_not_overlap_and_fit(geometry: Geometry) -> None:
    spans = []
    for which in Class:
        stride = geometry.stride(which)
        assert stride >= LEAD + geometry.capacity(which) + TAG and stride % LINE == 0
        for sender in Side:
            start = geometry.ring_at(sender, which)
            spans.append((start, start + stride * geometry.slots(which)))
    spans.sort()
    assert spans[0][0] >= 3 * PAGE and spans[-1][1] <= geometry.size
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert all(start % PAGE == 0 for start, _ in spans)


def test_every_word_has_a_line_of_its_own_on_its_writers_page() -> None:
    words = {(side, c, ring): cell(side, c, ring) for side in Side for c in Cell for ring in Class}
    shared = {k: v for k, v in words.items() if not (k[1] < Cell.PRODUCER_SLEEPS and k[2] is Class.BULK)}
    assert len({value * WORD // LINE for value in shared.values()}) == len(shared)
    for (side, _, _), value in words.items():
        assert PAGE * (1 + side) <= value * WORD < PAGE * (2 + side)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bulk_slots": 3},
        {"bulk_slots": 1},
        {"control_slots": 8192},
        {"bulk_bytes": 63},
        {"bulk_bytes": (2 << 20) + 1},
        {"bulk_slots": 8, "bulk_bytes": 1 << 20},
    ],
)
def test_what_is_out_of_bounds_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="slot"):
        Geometry(**wrong)


@given(GEOMETRIES)
def test_a_watcher_reads_the_geometry_back(geometry: Geometry) -> None:
    with Bus.create(geometry) as bus:
        assert described(bus.memory) == geometry


@given(st.binary(max_size=200))
def test_what_is_no_bus_is_not_described(junk: bytes) -> None:
    with pytest.raises(ValueError, match="bus"):
        described(memoryview(junk))
