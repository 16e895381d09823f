"""A broker of few CONNECTIONS and deadlines of DEADLINE seconds: `python -m tests.broker.hurried`."""

import os

from client.broker import deadlines, server, tls
from cloister.cli.app import app

_seconds = float(os.environ["DEADLINE"])
deadlines.HEAD = deadlines.BODY = deadlines.STALL = tls.STALL = _seconds  # type: ignore[misc]
server.MAX_CONNECTIONS = int(os.environ["CONNECTIONS"])  # type: ignore[misc]

if __name__ == "__main__":
    app()
