"""How a worker's process ends: what its exit status says, and signals while it loads."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from attestation import ExitCode
from sealing.errors import ConsentRefused, MalformedDocument

from .engine.interface import EngineError
from .files import FilesError
from .gpu.device.keeper import DeviceUnavailable
from .release.errors import BrokerUnreachable, ReleaseError, TooFewShares

REFUSALS: Final = (
    ConsentRefused,
    MalformedDocument,
    FilesError,
    ReleaseError,
    EngineError,
    DeviceUnavailable,
)
"""Why a worker does not start."""

_STOPS: Final = (signal.SIGINT, signal.SIGTERM)


def exit_status(error: Exception) -> int:
    """Of a worker that did not start.

    UNEVALUABLE where no answer came that could decide it (a key broker was not reached), else REJECTED: it
    may not load what it should, for want of a consent, key, artifact or device.
    """
    undecided = isinstance(error, BrokerUnreachable) or (isinstance(error, TooFewShares) and error.undecided)
    return ExitCode.UNEVALUABLE if undecided else ExitCode.REJECTED


@contextmanager
def ended_quietly(erase: Callable[[], None]) -> Iterator[None]:
    """While in the block, SIGINT and SIGTERM `erase` the keys and end the process, with 128 + the signal.

    At once, wherever it is: what it was loading goes with the process. Afterwards both raise
    KeyboardInterrupt.
    """

    def end(number: int, _: FrameType | None) -> None:
        try:
            erase()
        finally:
            os._exit(128 + number)

    for stop in _STOPS:
        signal.signal(stop, end)
    try:
        yield
    finally:
        for stop in _STOPS:
            signal.signal(stop, signal.default_int_handler)
