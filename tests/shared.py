"""Vectors and evidence beside the checkout, in `../shared`. Absent: skip with the reason; under CI: fail."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared(*parts: str) -> Path:
    """Path of a file or folder under `../shared`; skips the calling test when it is not there."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        reason = f"{path} is not here: this test needs the published vectors or evidence beside the checkout"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason, allow_module_level=True)
    return path
