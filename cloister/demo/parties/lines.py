"""How the director and a party's process talk: one JSON object a line, orders in, answers and events out."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

Values = dict[str, Any]
MAX_LINE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Say:
    """Writes one party's events to its standard output."""

    party: str

    def __call__(self, kind: str, text: str, **facts: Any) -> None:
        """Something that this party did or saw: `kind` for the page, `text` in plain words, facts beside."""
        self.line({"event": kind, "party": self.party, "text": text, "facts": facts})

    def line(self, value: Values) -> None:
        """One line."""
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


Order = Callable[..., Awaitable[Values | None]]


async def attend(say: Say, orders: Mapping[str, Order]) -> None:
    """Carry out orders, one after the other, until standard input ends.

    An order that fails is answered with the error's name and text; the process goes on.
    """
    reader = asyncio.StreamReader(limit=MAX_LINE)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    while raw := await reader.readline():
        order = json.loads(raw)
        try:
            result = await orders[order["do"]](**order.get("with", {}))
            say.line({"done": order["id"], "result": result or {}})
        except Exception as error:  # whatever fails in a party is that party's answer, not its end
            say.line({"failed": order["id"], "error": f"{type(error).__name__}: {error}"})
