"""Directories of tiny models, made once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.engine.models import configs, save_model


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of the tiny model of an architecture, by its name in `configs()`."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = save_model(configs()[name], tmp_path_factory.mktemp(name))
        return made[name]

    return make


@pytest.fixture(scope="session")
def llama(model_directory: Callable[[str], Path]) -> Path:
    return model_directory("llama")
