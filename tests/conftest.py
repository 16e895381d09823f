"""Fixtures that several folders share: one worker for all tests that only use it."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.check_audit import Recorder
from tests.running import RunningWorker

settings.register_profile("untimed", deadline=None)  # how long an example takes is no property of ours
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Record how every check ends, in whichever test."""
    config.pluginmanager.register(Recorder(), "checks")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What judges the whole session's record comes last."""
    items.sort(key=lambda item: item.path.name == "test_every_check.py")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a CUDA device where torch sees none."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("torch sees no CUDA device here")


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    """The shipped model behind a real server process, for tests that do not harm it."""
    running = RunningWorker(tmp_path_factory.mktemp("worker")).start()
    yield running
    running.stop()
