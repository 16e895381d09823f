"""Each sealed request is let through once, whatever the host does to the clock."""

from hypothesis import given
from hypothesis import strategies as st

from enclave.gateway.replay import Admission, ReplayCache

NOW = 1_800_000_000


def test_a_request_is_admitted_once() -> None:
    cache = ReplayCache()
    assert cache.admit(b"enc", b"id", NOW, NOW) is Admission.ADMITTED
    assert cache.admit(b"enc", b"other", NOW, NOW + 1) is Admission.REPLAYED


def test_a_retry_under_the_same_id_is_not_run_twice() -> None:
    cache = ReplayCache()
    assert cache.admit(b"enc 1", b"id", NOW, NOW) is Admission.ADMITTED
    assert cache.admit(b"enc 2", b"id", NOW + 40, NOW + 40) is Admission.REPLAYED


def test_creation_time_counts_to_120_seconds_either_way() -> None:
    cache = ReplayCache()
    assert cache.admit(b"1", b"a", NOW - 120, NOW) is Admission.ADMITTED
    assert cache.admit(b"2", b"b", NOW + 120, NOW) is Admission.ADMITTED
    assert cache.admit(b"3", b"c", NOW - 121, NOW) is Admission.STALE
    assert cache.admit(b"4", b"d", NOW + 121, NOW) is Admission.STALE


def test_what_was_forgotten_stays_refused_when_the_clock_is_set_back() -> None:
    cache = ReplayCache()
    assert cache.admit(b"enc", b"id", NOW, NOW) is Admission.ADMITTED
    assert cache.admit(b"new", b"id2", NOW + 600, NOW + 600) is Admission.ADMITTED
    assert len(cache) == 2  # the old bucket is gone
    assert cache.admit(b"enc", b"id", NOW, NOW) is Admission.STALE


def test_a_full_cache_refuses_and_recovers() -> None:
    cache = ReplayCache(capacity=4)
    assert cache.admit(b"1", b"a", NOW, NOW) is Admission.ADMITTED
    assert cache.admit(b"2", b"b", NOW, NOW) is Admission.ADMITTED
    assert cache.admit(b"3", b"c", NOW, NOW) is Admission.FULL
    assert cache.admit(b"3", b"c", NOW + 200, NOW + 200) is Admission.ADMITTED


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-130, 130), st.integers(-400, 400)), max_size=30))
def test_no_sequence_of_clocks_admits_the_same_request_twice(steps: list[tuple[int, int, int]]) -> None:
    cache = ReplayCache()
    admitted: set[tuple[int, int]] = set()
    for which, offset, clock in steps:
        created = NOW + offset
        outcome = cache.admit(bytes([which]), bytes([which, offset % 256]), created, NOW + clock)
        if outcome is Admission.ADMITTED:
            assert (which, created) not in admitted
            admitted.add((which, created))
