"""What the command line prints of somebody else's words cannot steer a terminal."""

import pytest

from client.errors import WorkerRefused
from cloister.cli.failures import explain, printable


def test_control_and_direction_codes_are_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    title = "\x1b[2J\x1b[1;32mACCEPTED\u202e\r"
    assert explain(WorkerRefused(500, {"title": title})) == 1
    printed = capsys.readouterr().err
    assert "ACCEPTED" in printed
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert printable("plain é 你好") == "plain é 你好"
