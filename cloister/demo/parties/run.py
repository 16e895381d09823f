"""`cloister demo parties`: the story with a page in the browser, or in the terminal."""

import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from attestation import ExitCode
from cloister.cli import render

from .director import Director
from .lines import Values
from .page import Page
from .process import PartyFailed
from .texts import CAST, WARDS
from .trials import DESCRIBED, Outcome, Trial

TITLES = {part.name: part.title for part in CAST}


def run(*, page: bool, port: int) -> int:
    """Run the demo: with a page until Ctrl-C, without one to its end. 0 if every attack was stopped."""
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="cloister-parties-") as folder:
        try:
            return asyncio.run(_paged(console, Path(folder), port) if page else _told(console, Path(folder)))
        except PartyFailed as error:
            sys.stderr.write(f"cloister: {error}\n")
            return ExitCode.INTERNAL


async def _told(console: Console, folder: Path) -> int:
    """The whole story, every attack once."""
    outcomes: list[Outcome] = []
    director = Director(folder, lambda event: _event(console, director, event))
    async with director.running():
        for hospital, ward in WARDS.items():
            for number in range(1, len(ward.questions)):
                await director.ask(hospital, number)
        for trial in Trial:
            console.print(Text(f"\nThe operator: {DESCRIBED[trial].title}. {DESCRIBED[trial].what}", "bold"))
            outcomes.append(await director.attack(trial))
            _outcome(console, outcomes[-1])
    stopped = sum(outcome.stopped and outcome.clear for outcome in outcomes)
    console.print(f"\n{stopped} of {len(outcomes)} attacks were stopped.")
    console.print(
        "SIMULATED: no confidential hardware here; anybody can sign as the simulator", style="yellow"
    )
    return ExitCode.ACCEPTED if stopped == len(outcomes) else ExitCode.INTERNAL


async def _paged(console: Console, folder: Path, port: int) -> int:
    """The page, until someone presses Ctrl-C."""
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    director = Director(folder, lambda event: page.changed())
    page = Page(director)
    await page.start(port)
    console.print(f"open {page.url}", soft_wrap=True)
    console.print("SIMULATED: no confidential hardware here. Ctrl-C ends it.", style="yellow")
    story = asyncio.create_task(_story(director, page, ended))
    try:
        await ended.wait()
    finally:
        ended.set()
        await asyncio.gather(story, return_exceptions=True)
        await page.stop()
    return ExitCode.ACCEPTED if not director.state.failed else ExitCode.INTERNAL


async def _story(director: Director, page: Page, ended: asyncio.Event) -> None:
    try:
        async with director.running():
            await ended.wait()
    except PartyFailed as error:
        director.state.failed = str(error)
        page.changed()


def _event(console: Console, director: Director, event: Values | None) -> None:
    """One line an event; steps as titles."""
    if event is None:
        if director.state.step != _LAST[0]:
            _LAST[0] = director.state.step
            console.print(Text(f"\n{director.state.step}", "bold"))
        return
    if event["event"] in ("wire", "bus"):
        return
    line = Text(f"{event['at']:6.1f} s  {TITLES[event['party']]:<15}")
    console.print(line.append(_plain(event["text"])), soft_wrap=True)
    if event["event"] == "exchange":
        _exchange(console, event["facts"])


_LAST = [""]


def _exchange(console: Console, facts: Values) -> None:
    for passage in facts["passages"]:
        quoted = passage["text"].replace("\n", " / ")
        console.print(
            Text(f"{'':26}quotes {passage['path']}, lines {passage['lines']}: {_plain(quoted)}"),
            soft_wrap=True,
        )
    console.print(Text(f"{'':26}asks {facts['model']}: {facts['question']}"), soft_wrap=True)
    console.print(Text(f"{'':26}reads: {_plain(facts['answer'])}"), soft_wrap=True)


def _outcome(console: Console, outcome: Outcome) -> None:
    word, style = ("stopped", "green") if outcome.stopped else ("SUCCEEDED", "bold red")
    if not outcome.clear:
        word, style = "unclear: it failed, but not for the reason that counts;", "yellow"
    console.print(Text(f"  tried    {_plain(outcome.did)}"), soft_wrap=True)
    console.print(Text.assemble("  ", (word, style), f"  by {_plain(outcome.by)}"), soft_wrap=True)
    if outcome.said:
        console.print(Text(f"  answer   {_plain(outcome.said)}"), soft_wrap=True)


def _plain(text: str) -> str:
    """For a terminal: no control codes, long hexadecimal cut short."""
    return render.shorten("".join(c if c.isprintable() else " " for c in text))
