"""The fuzz targets hold on their seeds and on a few altered ones; `python -m fuzz.run` goes deeper."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS
from tests.attestation.clouds import mutated
from tests.shared import shared


@pytest.mark.parametrize("name", TARGETS)
def test_targets_hold(name: str) -> None:
    shared("evidence")
    target = TARGETS[name]
    seeds = target.corpus()
    assert seeds
    for seed in seeds:
        target.run(seed)

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(seeds).flatmap(mutated) | st.binary(max_size=200))
    def check(raw: bytes) -> None:
        target.run(raw)

    check()
