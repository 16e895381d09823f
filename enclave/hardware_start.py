"""The first code of a worker on real hardware: a signal before there is anything to erase ends it quietly."""

import os
import signal

for _stop in (signal.SIGINT, signal.SIGTERM):
    signal.signal(_stop, lambda number, _: os._exit(128 + number))

from .hardware import main  # noqa: E402 - it takes a second or two, in which somebody may press Ctrl-C

if __name__ == "__main__":
    raise SystemExit(main())
