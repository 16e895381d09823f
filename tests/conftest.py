"""Fixtures that several folders share: one worker for all tests that only use it."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.running import RunningWorker

settings.register_profile("untimed", deadline=None)  # how long an example takes is no property of ours
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    """The shipped model behind a real server process, for tests that do not harm it."""
    running = RunningWorker(tmp_path_factory.mktemp("worker")).start()
    yield running
    running.stop()
