"""What the command line says when something is wrong: in words, that cannot steer a terminal."""

import sys
from pathlib import Path

import pytest

from attestation import Policy
from client.errors import NotAnAddress, WorkerRefused
from client.sdk import AsyncClient
from cloister.cli.app import main
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


@pytest.mark.parametrize(
    "words",
    [
        ["broker", "init", "--data", "{file}/broker"],
        ["policy", "explain", "{file}/policy"],
        ["owner-key", "new", "{file}/key"],
    ],
    ids=lambda words: words[0],
)
def test_a_place_that_cannot_be_used_is_named_and_no_traceback_shown(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"not a folder")
    monkeypatch.setattr(sys, "argv", ["cloister", *(word.format(file=file) for word in words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert str(file) in capsys.readouterr().err


def test_without_the_extra_azure_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = tmp_path / "release.json"
    release.write_text("{}")
    words = ["azure", "key", "https://vault.example", "model", "--release-policy", str(release)]
    monkeypatch.setattr(sys, "argv", ["cloister", *words])
    monkeypatch.setitem(sys.modules, "azure.keyvault.keys", None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "pip install 'cloister[azure]'" in capsys.readouterr().err
