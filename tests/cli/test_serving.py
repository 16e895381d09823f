"""What cannot be served is said at once, before anything is measured or started."""

import dataclasses
import socket
from pathlib import Path

import pytest

from cloister.cli.serving import Settings, serve
from enclave.configuration import ConfigurationError

PLAIN = Settings(model=None, name=None, adapters=[], engine=[], issuers=[])


def test_a_port_in_use_is_refused_with_a_way_out() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigurationError, match="in use; give another --port"),
    ):
        serve(PLAIN, "127.0.0.1", taken.getsockname()[1], None)


def test_a_policy_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="absent is not a directory"):
        serve(PLAIN, "127.0.0.1", 0, tmp_path / "absent" / "worker.toml")


def test_places_that_are_not_there_are_named(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    for changes, message in (
        ({"consent": absent}, "--consent .*absent: no such file"),
        ({"model": str(absent)}, "absent is not a model directory: there is none"),
        ({"model": str(tmp_path)}, "it has no config.json"),
        ({"issuers": [absent]}, "--issuer .*absent: No such file"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            dataclasses.replace(PLAIN, **changes).configuration()
