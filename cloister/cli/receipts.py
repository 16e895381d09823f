"""`cloister receipt`: what a worker signed about an answer, shown, and verified by those not there."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from attestation import Bundle
    from sealing.receipts import Receipt, Salts, SignedReceipt

app = typer.Typer(name="receipt", help="Signed receipts for answers.", no_args_is_help=True)

ReceiptFile = Annotated[Path, typer.Argument(help="A receipt, as `cloister ask --receipt` wrote it.")]
MAX_FILE = 64 * 1024 * 1024


@app.callback()
def options() -> None:
    """Signed receipts for answers: made by the attested worker, verified without it."""


@app.command("show")
def show(receipt: ReceiptFile) -> None:
    """Show what a receipt says. Nothing is verified."""
    from rich.console import Console

    from . import render

    console = Console()
    for name, value in _rows(_signed(receipt).receipt):
        console.print(f"{name:<12}{render.shorten(value)}", soft_wrap=True, markup=False, highlight=False)
    console.print("NOT VERIFIED: see `cloister receipt verify`", style="yellow")


@app.command("verify")
def verify(
    receipt: ReceiptFile,
    policy: Annotated[
        Path, typer.Option("--policy", "-p", help="Policy file (TOML): what the worker had to prove.")
    ],
    evidence: Annotated[
        str,
        typer.Option(help="The worker's evidence of the receipt's hour: a file, or the worker's URL."),
    ],
    request: Annotated[Path | None, typer.Option(help="The request's body, to be held against it.")] = None,
    response: Annotated[Path | None, typer.Option(help="The answer's body, to be held against it.")] = None,
    salts: Annotated[Path | None, typer.Option(help="The salts that came with the receipt.")] = None,
    collateral: Annotated[
        list[Path] | None,
        typer.Option(help="A collateral bundle, or a folder of the vendors' files; repeat for more."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Judge a receipt against the evidence of its hour; offline, if the evidence is a file.

    Exits 0 it holds, 3 it holds but simulated, 10 rejected, 20 not evaluable, 30 malformed, 2 usage.
    """
    from rich.console import Console

    from client.auditing import verify_receipt

    from . import render
    from .files import read_collateral, read_policy

    signed = _signed(receipt)
    rules = read_policy(policy)
    verdict = verify_receipt(
        signed,
        _evidence(evidence, signed.receipt),
        rules,
        collateral=read_collateral(collateral or []),
        salts=_salts(salts) if salts else None,
        request=_read(request) if request else None,
        response=_read(response) if response else None,
    )
    if as_json:
        sys.stdout.write(json.dumps(verdict.to_dict(), indent=2) + "\n")
    else:
        render.verdict(Console(), verdict)
    raise typer.Exit(verdict.exit_code)


@app.command("evidence")
def evidence(
    receipt: ReceiptFile,
    url: Annotated[str, typer.Option("--url", "-u", help="The worker's address.", envvar="CLOISTER_URL")],
    out: Annotated[Path, typer.Option(help="Where to write the evidence.")],
) -> None:
    """Fetch and keep the evidence of a receipt's hour: a worker forgets it when it stops."""
    bundle = _fetch(url, _signed(receipt).receipt)
    out.write_bytes(bundle.to_json())
    sys.stdout.write(f"evidence of {_instant(_signed(receipt).receipt.period)} written to {out}\n")


def _signed(path: Path) -> "SignedReceipt":
    from attestation import MalformedEvidence
    from sealing.errors import SealingError
    from sealing.receipts import SignedReceipt

    try:
        return SignedReceipt.from_bytes(_read(path))
    except SealingError as error:
        raise MalformedEvidence(f"{path} is not a receipt: {error}") from None


def _salts(path: Path) -> "Salts":
    from attestation import MalformedEvidence
    from sealing.errors import SealingError
    from sealing.receipts import Salts

    try:
        return Salts.from_bytes(_read(path))
    except SealingError as error:
        raise MalformedEvidence(f"{path} does not hold salts: {error}") from None


def _evidence(source: str, receipt: "Receipt") -> "Bundle":
    from attestation import Bundle

    if source.startswith(("http://", "https://")):
        return _fetch(source, receipt)
    return Bundle.from_json(_read(Path(source)))


def _fetch(url: str, receipt: "Receipt") -> "Bundle":
    import asyncio

    from client.hourly import fetch

    return asyncio.run(fetch(url, receipt))


def _read(path: Path) -> bytes:
    from .files import read_file

    return read_file(path, MAX_FILE)


def _rows(receipt: "Receipt") -> list[tuple[str, str]]:
    adapter = receipt.adapter
    return [
        ("time", _instant(receipt.time)),
        ("path", receipt.path),
        ("model", f"{receipt.model.name} {receipt.model.root.hex()}"),
        ("adapter", f"{adapter.name} {adapter.root.hex()}" if adapter else "none"),
        ("tokens", f"{receipt.prompt_tokens} read, {receipt.completion_tokens} written"),
        ("policies", ", ".join(receipt.policies) or "none"),
        ("consent", receipt.consent or "none"),
        ("keyset", receipt.keyset.hex()),
        ("workload", receipt.workload.hex()),
        ("request", receipt.request.hex()),
        ("response", receipt.response.hex()),
    ]


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
