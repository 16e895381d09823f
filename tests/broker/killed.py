"""A broker that kills itself at a commit: `python -m tests.broker.killed`, told by KILL_AT.

KILL_AT = "before:N" or "after:N": SIGKILL before or after the Nth commit since it listens. Otherwise it is
`cloister broker serve`.
"""

import os
import signal
import sys

from sqlalchemy import Engine, event

from client.broker import server
from cloister.cli.app import app

_when, _, _number = os.environ.get("KILL_AT", ":0").partition(":")
_commits = 0
_armed = False


def _at_commit(connection: object) -> None:
    global _commits
    if _armed:
        _commits += 1
        if _when == "before" and _commits == int(_number):
            os.kill(os.getpid(), signal.SIGKILL)


def _after_commit(dbapi: object, *_: object) -> None:
    """A connection goes back to its pool when its transaction is over."""
    if _armed and _when == "after" and _commits == int(_number):
        os.kill(os.getpid(), signal.SIGKILL)


event.listen(Engine, "commit", _at_commit)
_announce = server._announce


def _arm(url: str) -> None:
    global _armed
    _armed = True
    _announce(url)


server._announce = _arm

if __name__ == "__main__":
    from sqlalchemy.pool import Pool

    event.listen(Pool, "checkin", _after_commit)
    app(["broker", "serve", *sys.argv[1:]])
