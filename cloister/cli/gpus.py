"""`cloister gpu`: whether this machine's GPUs may be given secrets, and what to do if not."""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="gpu", help="This machine's GPUs: their mode, their evidence, what to do.", no_args_is_help=True
)


@app.callback()
def commands() -> None:
    """This machine's GPUs: their mode, their evidence, what to do."""


@app.command()
def check(
    policy: Annotated[
        Path,
        typer.Option("--policy", "-p", help="Policy file with an [nvidia_gpu] section: what they must be."),
    ],
    collateral: Annotated[
        list[Path] | None,
        typer.Option(help="A collateral bundle, or a folder of NVIDIA's files; repeat for more."),
    ] = None,
) -> None:
    """Ask every GPU for its mode and for evidence, judge them, and tell them to accept work if they pass.

    Exits 0 if they may serve, 10 if not, with every reason and its remedy, 20 if they cannot be asked.
    """
    from attestation import ExitCode
    from enclave.gpu.nvml import GpuRefused, GpuUnavailable, Nvml, admit

    from .failures import printable
    from .files import read_collateral, read_policy

    rules, extra = read_policy(policy), read_collateral(collateral or [])
    try:
        with Nvml.open() as nvml:
            admission = admit(nvml, rules, extra)
    except GpuUnavailable as error:
        sys.stderr.write(f"cloister: {printable(str(error))}\n")
        raise typer.Exit(ExitCode.UNEVALUABLE) from None
    except GpuRefused as refused:
        for each in refused.findings:
            sys.stderr.write(f"refused: {printable(each.reason)}\n  what to do: {each.remedy}\n")
        raise typer.Exit(ExitCode.REJECTED) from None
    write = sys.stdout.write
    write(f"driver {admission.driver}, mode as the policy wants it, accepting work\n")
    for gpu in admission.gpus:
        write(f"GPU {gpu.index}: {gpu.name}, VBIOS {gpu.vbios}: evidence verified\n")
