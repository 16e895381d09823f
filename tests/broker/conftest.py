"""A world and a machine for the broker's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.machines import Machine
from tests.broker.world import World, running_machine


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "broker.db")
    yield made
    made.store.close()


@pytest.fixture(scope="session")
def box() -> Iterator[Machine]:
    with running_machine() as made:
        yield made
