"""Event streams (WHATWG HTML, section 9.2) as far as the API uses them: data lines, comments, blank lines."""

from collections.abc import AsyncIterator

from .errors import BrokenAnswer

MAX_EVENT = 4 * 1024 * 1024


async def event_data(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The data of each event; comments, which are padding, are dropped.

    Raises BrokenAnswer for an event of more than 4 MiB or one that is not UTF-8.
    """
    buffer = bytearray()
    data: list[bytes] = []
    async for piece in pieces:
        buffer += piece
        *lines, rest = bytes(buffer).split(b"\n")
        buffer = bytearray(rest)
        if len(buffer) > MAX_EVENT:
            raise BrokenAnswer("an event exceeds 4 MiB")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield _text(b"\n".join(data))
                data = []


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BrokenAnswer("an event is not UTF-8") from None
