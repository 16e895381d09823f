"""The real openai package for Node, through the API without its gateway (in tests alone)."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.encoders_made import save_encoder
from tests.plain import plain_app
from tests.running import FAQ

PACKAGE = "openai@^7.57"
SCRIPT = Path(__file__).parent / "node" / "features.mjs"


@pytest.mark.slow
def test_openais_node_package(tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("npm and node are not installed")
    installed = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--prefix", str(tmp_path), PACKAGE],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    if installed.returncode:
        pytest.skip(f"npm cannot install {PACKAGE}: {installed.stderr[-300:]}")
    script = shutil.copy(SCRIPT, tmp_path / "features.mjs")
    encoder = save_encoder(tmp_path / "encoder")
    with plain_app(FAQ, encoders={"mini": encoder}) as url:
        command = [node, script, url, "mini"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == 8
