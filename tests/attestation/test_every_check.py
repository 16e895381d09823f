"""No check of the vocabulary is without a test that sees it pass and one that sees it reject.

Runs last, over what the whole session recorded; `tests.check_audit` goes further and breaks each check.
"""

from pathlib import Path

import pytest

from attestation.vocabulary import enumerations
from tests.check_audit import Recorder

CHECKS = {str(check) for enumeration in enumerations() for check in enumeration}


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> Recorder:
    """How checks ended in this session, if it runs all tests of this folder."""
    recorder = request.config.pluginmanager.get_plugin("checks")
    assert isinstance(recorder, Recorder)
    if missing := sorted({*Path(__file__).parent.glob("test_*.py")} - recorder.files):
        pytest.skip(f"tests/attestation is run in part only: without {missing[0].name}, for one")
    return recorder


def test_every_check_was_seen_to_pass(recorded: Recorder) -> None:
    assert CHECKS - recorded.passing.keys() == set()


def test_every_check_was_seen_to_reject(recorded: Recorder) -> None:
    assert CHECKS - recorded.rejecting.keys() == set()
