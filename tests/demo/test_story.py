"""The whole demo with its real processes; minutes, so only with `make test-slow`."""

import pytest

from tests.running import cloister


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_story_in_the_terminal_ends_well() -> None:
    done = cloister("demo", "parties", "--no-page", timeout=550)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 of 8 attacks were stopped" in done.stdout
    assert "SIMULATED" in done.stdout
    assert "Next INR on 12 April" in done.stdout  # a passage, for its owner
    assert done.stdout.count("released, the key of") >= 4
