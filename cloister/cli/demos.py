"""`cloister demo`, and `cloister demo parties`."""

from typing import Annotated

import typer

app = typer.Typer(name="demo", help="Show the whole job: one client, or several parties.")


@app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    question: Annotated[str | None, typer.Option(help="What to ask instead of the demo's question.")] = None,
) -> None:
    """Start a worker, attest it, ask it something, and show what its operator saw."""
    if context.invoked_subcommand is None:
        from cloister.demo.run import run

        raise typer.Exit(run(question))


@app.command()
def parties(
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="A live page in the browser, or the same story here.")
    ] = True,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the page on loopback; 0 picks a free one.")
    ] = 0,
) -> None:
    """A model lab, an adapter owner, two hospitals, an operator who attacks, an auditor; each a process.

    With --no-page it ends by itself: 0 if every attack was stopped, 1 if not.
    """
    from cloister.demo.parties.run import run

    raise typer.Exit(run(page=page, port=port))
