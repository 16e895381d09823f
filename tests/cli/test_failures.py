"""What the command line prints of somebody else's words cannot steer a terminal."""

import pytest

from attestation import Policy
from client.errors import NotAnAddress, WorkerRefused
from client.sdk import AsyncClient
from cloister.cli.failures import explain, printable
from tests.broker.world import POLICY


def test_control_and_direction_codes_are_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    title = "\x1b[2J\x1b[1;32mACCEPTED\u202e\r"
    assert explain(WorkerRefused(500, {"title": title})) == 1
    printed = capsys.readouterr().err
    assert "ACCEPTED" in printed
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert printable("plain é 你好") == "plain é 你好"


@pytest.mark.parametrize(
    "url", ["worker", "ftp://127.0.0.1:8420", "http://", "127.0.0.1:8420", "http://[::1", "http://a:b"]
)
def test_what_is_no_address_is_called_that(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotAnAddress) as caught:
        AsyncClient(url, Policy.from_toml(POLICY))
    assert explain(caught.value) == 2
    assert "not a worker's address" in capsys.readouterr().err
