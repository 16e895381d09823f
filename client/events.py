"""Event streams (WHATWG HTML, section 9.2) as far as the API uses them: data lines, comments, blank lines."""

from collections.abc import AsyncIterator

from .errors import BrokenAnswer

MAX_EVENT = 4 * 1024 * 1024


async def event_data(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The data of each event; comments, which are padding, are dropped.

    Raises BrokenAnswer for an event of more than 4 MiB or one that is not UTF-8.
    """
    begun = bytearray()
    data: list[bytes] = []
    size = 0
    async for piece in pieces:
        *lines, rest = piece.split(b"\n")
        if lines:
            lines[0], begun = bytes(begun) + lines[0], bytearray()
        begun += rest
        if len(begun) + size > MAX_EVENT:
            raise BrokenAnswer("an event exceeds 4 MiB")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
                size += len(line)
            elif not line and data:
                yield _text(b"\n".join(data))
                data, size = [], 0


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BrokenAnswer("an event is not UTF-8") from None
