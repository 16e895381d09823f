"""`cloister policy`: a file to start from, what is wrong with one, what it says in plain words."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .files import read_policy

if TYPE_CHECKING:
    from rich.console import Console

    from attestation.policy_profiles import Said

app = typer.Typer(name="policy", help="Write, check and explain policies.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="A policy file (TOML).")]


@app.command()
def new(
    tee: Annotated[
        list[str],
        typer.Option(help="Kind of evidence: sev-snp, tdx, sgx, nvidia-gpu, tpm, nitro...; repeat for more."),
    ],
    strict: Annotated[
        bool, typer.Option("--strict", help="Also ask for what may be left out, such as chips.")
    ] = False,
    simulator: Annotated[
        bool, typer.Option("--simulator", help="Trust the simulator, which protects nothing.")
    ] = False,
) -> None:
    """Print a commented policy to start from. Until each FILL-IN is replaced it is refused."""
    from attestation.policy_profiles import profile

    sys.stdout.write(profile(tee, strict=strict, simulator=simulator))


@app.command()
def check(file: File) -> None:
    """Say whether a policy file can be used, and if not, what is wrong. Exits 0 or 2."""
    policy = read_policy(file)
    typer.echo(f"{file}: usable, SHA-256 {policy.digest.hex()}")


@app.command()
def explain(file: File) -> None:
    """Say in plain words what a policy demands, what it leaves open and what it weakens."""
    from rich.console import Console

    from attestation.policy_profiles import explain as statements

    _render(Console(), statements(read_policy(file)))


def _render(console: "Console", said: "tuple[Said, ...]") -> None:
    from attestation.policy_guide import Kind

    styles = {Kind.DEMANDED: "", Kind.OPEN: "yellow", Kind.WEAKENED: "bold red"}
    section = None
    for item in said:
        if item.section != section:
            section = item.section
            console.print(f"\n[{section}]" if section else "", markup=False)
        console.print(f"{item.kind:<14}{item.text}", style=styles[item.kind], soft_wrap=True, markup=False)
    weak = sum(item.kind is Kind.WEAKENED for item in said)
    left_open = sum(item.kind is Kind.OPEN for item in said)
    console.print(f"\n{weak} weakened, {left_open} not required", markup=False)
