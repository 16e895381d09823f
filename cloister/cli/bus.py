"""`cloister bus`: what the host sees of the link between worker and device."""

import sys
import time
from typing import Annotated

import typer

app = typer.Typer(
    name="bus", help="The bus between worker and GPU, as its operator sees it.", no_args_is_help=True
)

MAX_ROWS = 20


@app.callback()
def commands() -> None:
    """The bus between worker and GPU, as its operator sees it."""


@app.command()
def watch(
    pid: Annotated[
        int | None,
        typer.Option(help="`cloister serve`'s process, or one that has the bus; the only bus is found."),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long; else Ctrl-C.")] = None,
    rows: Annotated[
        int, typer.Option(min=1, help="Most rows to print at a time; the rest is counted.")
    ] = MAX_ROWS,
) -> None:
    """Show every record that crosses the bus: direction, ring, kind, size, entropy, first bytes.

    It reads the shared memory from outside, as root on the host can, or whoever owns one of its processes.
    """
    from enclave.gpu.link.watch import Watcher, row, stream, the_bus

    watcher = Watcher.of(the_bus(pid))
    begin = time.monotonic()
    try:
        for seen in stream(watcher, lambda: seconds is not None and time.monotonic() - begin > seconds):
            for one in seen[:rows]:
                sys.stdout.write(row(one, begin) + "\n")
            if len(seen) > rows:
                sys.stdout.write(f"          ... and {len(seen) - rows} more at the same time\n")
            sys.stdout.flush()
    finally:
        typer.echo(f"overwritten before they were looked at: at least {watcher.missed}", err=True)
