"""Directories of tiny models, made once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.engine.models import configs, save_adapter, save_model


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


@pytest.fixture(scope="session")
def adapters(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        "pirate": save_adapter(llama, tmp_path_factory.mktemp("pirate"), 1),
        "a.b/poet": save_adapter(
            llama, tmp_path_factory.mktemp("poet"), 2, r=2, use_rslora=True, target_modules="all-linear"
        ),
    }
