"""One end of a link session: messages, SPDM beside them, bulk objects.

The first record that does not authenticate, and anything else that no honest end does, ends the session: keys
are erased, the other end is told, and every later call raises LinkBroken with the same reason.
"""

from typing import Self

from enclave.gpu.bus import BusEnd
from enclave.memory import PROTECTED
from enclave.memory import Kind as MemoryKind

from .bulk import Bulk
from .control import Control
from .records import Bytes
from .session import TIMEOUT


class Link(Control, Bulk):
    """A session over an attached bus end. `secret` is the SPDM export master secret, 48 bytes, not kept.

    `session` is the SPDM session id. `timeout` is the longest wait, in seconds, for anything to move.
    `per_key` lowers how many records a key protects (docs/spec/link.md); both ends must agree on it.
    `direct` overrides what loads.py says of this processor, for tests. Any thread may send or receive; those
    who use the same ring take turns. Raises ValueError, MemoryUnavailable.
    """

    def __init__(
        self,
        end: BusEnd,
        secret: Bytes,
        session: int,
        *,
        timeout: float = TIMEOUT,
        per_key: int | None = None,
        kinds: tuple[MemoryKind, ...] = PROTECTED,
        direct: bool | None = None,
    ) -> None:
        super().__init__(end, secret, session, timeout=timeout, per_key=per_key, kinds=kinds, direct=direct)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
