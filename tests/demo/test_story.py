"""The whole demo with its real processes, in the terminal and in a browser; minutes, so only on request."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from cloister.demo.parties.trials import Trial
from tests.demo.test_page import browser  # noqa: F401  (a fixture)
from tests.running import ROOT, cloister

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_story_in_the_terminal_ends_well() -> None:
    done = cloister("demo", "parties", "--no-page", timeout=850)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(Trial)} of {len(Trial)} attacks were stopped" in done.stdout
    assert "SIMULATED" in done.stdout
    assert "Next INR on 12 April" in done.stdout  # a passage, for its owner
    assert done.stdout.count("released, the key of") >= 4


@pytest.fixture
def url() -> Iterator[str]:
    """The page of a running demo."""
    command = [sys.executable, "-m", "cloister", "demo", "parties"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as demo:
        assert demo.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\S+", demo.stdout.readline())
        assert found is not None
        yield found[0]
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0


async def test_the_page_shows_what_the_processes_say(url: str, browser: Any) -> None:  # noqa: F811
    view = await browser.new_page()
    await view.goto(url)
    await view.get_by_text("Running. Ask").wait_for(timeout=300_000)
    assert await view.get_by_text("Next INR on 12 April").count() == 1  # in one card, its owner's
    assert await view.locator("#releases .badge.good").count() == 4
    assert await view.locator("#receipts tbody tr").count() == 2
    for trial in (Trial.WIRE, Trial.SPLICE, Trial.CONSENT):
        await view.locator(f"#trial-{trial} button").click()
        await view.locator(f"#trial-{trial} .badge").wait_for(timeout=300_000)
        assert await view.locator(f"#trial-{trial} .badge").inner_text() == "Stopped"
    rejected = view.locator("#verdicts tbody tr").first
    assert "snp.report-data" in await rejected.inner_text()
