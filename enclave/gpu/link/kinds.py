"""What a record is: bits 22 to 25 of its header word, above the plaintext's length."""

from enum import IntEnum
from typing import Final

SHIFT: Final = 22
LENGTH: Final = (1 << SHIFT) - 1
MAX_MESSAGE: Final = 1 << 20
MAX_SPDM: Final = 1 << 16


class Kind(IntEnum):
    """Kinds of records. After one with `_MORE` the next of its kind continues the same message."""

    SPDM = 0
    SPDM_MORE = 1
    MESSAGE = 2
    MESSAGE_MORE = 3
    CLOSE = 4
    CHUNK = 5
    END = 6
    ABORT = 7


def word(kind: Kind, length: int) -> int:
    """A header word without the lap."""
    return kind << SHIFT | length
