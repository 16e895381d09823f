"""A party as a process: `python -m cloister.demo.parties.party NAME FOLDER`, orders on standard input."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from .lines import Say, attend


def _made(name: str, folder: Path) -> Any:
    if name == "operator":
        from .operating import Operator

        return Operator(name, folder)
    if name == "auditor":
        from .auditor import Auditor

        return Auditor(name, folder)
    if name in ("north", "south"):
        from .hospital import Hospital

        return Hospital(name, folder)
    from .owner import Owner

    return Owner(name, folder)


async def _run(name: str, folder: Path) -> None:
    party = _made(name, folder)
    orders = {item: getattr(party, item) for item in dir(party) if not item.startswith("_")}
    try:
        await attend(Say(name), {item: order for item, order in orders.items() if callable(order)})
    finally:
        await party.close()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], Path(sys.argv[2])))
