"""The header word of a record: plaintext length in the low half, kind above it, nothing else."""

from enum import IntEnum
from typing import Final

MORE: Final = 0x80
SHIFT: Final = 32
MAX_MESSAGE: Final = 1 << 20
MAX_SPDM: Final = 1 << 16


class Kind(IntEnum):
    """What a record is. `MORE` is added to those whose message goes on in the next record of its kind."""

    SPDM = 0x00
    MESSAGE = 0x01
    CLOSE = 0x02
    CHUNK = 0x10
    END = 0x11
    ABORT = 0x12
