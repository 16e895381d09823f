"""SPDM messages on the control ring: bytes that protect themselves, before a session and beside it."""

from enclave.gpu.bus import BusEnd, LinkBroken, Reason
from enclave.gpu.bus.rings import Producer

from .kinds import MAX_SPDM, SHIFT, Kind, word
from .records import Bytes, plaintext_length
from .session import TIMEOUT, countdown


class Parts:
    """A message that comes in several records, put together up to a bound."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._parts: list[bytes] = []
        self._size = 0

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, part: bytes, more: bool) -> bytes | None:
        """The whole message, or None while more is to come. LinkBroken(PROTOCOL) beyond the bound."""
        if not more and not self._parts:
            return part
        self._size += len(part)
        if self._size > self._bound or not part:
            raise LinkBroken(Reason.PROTOCOL, "a message beyond its bound, or an empty part of one")
        self._parts.append(part)
        if more:
            return None
        whole = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return whole


def send_plain(ring: Producer, data: Bytes, timeout: float) -> None:
    """Put an SPDM message on the control ring, whose turn the caller has. ValueError beyond 64 KiB."""
    if len(data) > MAX_SPDM:
        raise ValueError(f"an SPDM message is at most {MAX_SPDM} bytes")
    view, start, more = memoryview(data), 0, True
    while more:
        part = view[start : start + ring.capacity]
        start += len(part)
        more = start < len(view)
        slot = ring.reserve(timeout)
        slot[: len(part)] = part
        ring.publish(word(Kind.SPDM_MORE if more else Kind.SPDM, len(part)))


class SpdmPort:
    """SPDM messages over a bus end, while there is no link on it. For one thread."""

    def __init__(self, end: BusEnd) -> None:
        self._end = end
        self._parts = Parts(MAX_SPDM)

    def send(self, data: Bytes, *, timeout: float = TIMEOUT) -> None:
        """Send one message of at most 64 KiB. Raises LinkBroken, LinkTimeout."""
        with self._end.control_out:
            send_plain(self._end.control_out, data, timeout)

    def receive(self, *, timeout: float = TIMEOUT) -> bytes:
        """One message, whole within `timeout`: the host's bytes, to be judged. LinkBroken, LinkTimeout.

        A record of the link before there is one is LinkBroken(PROTOCOL).
        """
        ring, left = self._end.control_in, countdown(timeout)
        with ring:
            while True:
                header, slot = ring.take(left())
                kind = header >> SHIFT
                if kind not in (Kind.SPDM, Kind.SPDM_MORE):
                    raise LinkBroken(Reason.PROTOCOL, "a protected record before there is a session")
                part = bytes(slot[: plaintext_length(header, ring.capacity)])
                ring.free()
                whole = self._parts.add(part, kind == Kind.SPDM_MORE)
                if whole is not None:
                    return whole
