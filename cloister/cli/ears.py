"""`cloister ear`, and the signing half of `cloister verify`: attestation results as tokens."""

import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from attestation import Verdict
    from attestation.ear import Ear, PrivateKey, Submodule

app = typer.Typer(name="ear", help="Attestation results as signed tokens (EAR).", no_args_is_help=True)

NOT_CHECKED = "SIGNATURE NOT CHECKED: anybody can have written this. Give the issuer's key with --key."
_COLOURS = {"affirming": "green", "warning": "yellow", "none": "yellow", "contraindicated": "bold red"}
MAX_FILE = 256 * 1024


@app.callback()
def options() -> None:
    """Attestation results as signed tokens (EAR)."""


@app.command("show")
def show(
    source: Annotated[str, typer.Argument(help="A token, or a file that holds one.")],
    key: Annotated[Path | None, typer.Option(help="PEM file of the issuer's public key.")] = None,
    issuer: Annotated[str | None, typer.Option(help="Who must have issued it.")] = None,
    nonce: Annotated[str | None, typer.Option(help="The nonce it must answer, in hexadecimal.")] = None,
    checks: Annotated[
        bool, typer.Option("--checks", help="List every check, not only those that did not pass.")
    ] = False,
) -> None:
    """Show an attestation result, and with --key whether it may be relied on.

    Exits 0 affirming, 3 simulated, 10 anything else or a token that does not hold, 20 not checked.
    """
    from rich.console import Console

    from attestation import ExitCode
    from attestation.ear import parse_ear, public_key, read_ear

    token = _token(source)
    if key is None:
        render(Console(), parse_ear(token), every=checks)
        Console().print(NOT_CHECKED, style="bold red", soft_wrap=True)
        raise typer.Exit(ExitCode.UNEVALUABLE)
    wanted = _hex(nonce) if nonce else None
    now = datetime.now(UTC)
    ear = read_ear(token, public_key(_read(key)), now=now, issuer=issuer, nonce=wanted)
    render(Console(), ear, every=checks)
    Console().print(f"signature checked with {key}", soft_wrap=True, markup=False)
    accepted = ExitCode.ACCEPTED if ear.affirming else ExitCode.REJECTED
    raise typer.Exit(ExitCode.SIMULATED if ear.simulated and ear.verdict == "SIMULATED" else accepted)


@dataclass(frozen=True, slots=True)
class Signing:
    """How to sign a verdict, and where the token goes."""

    key: "PrivateKey" = field(repr=False)
    out: Path | None
    issuer: str

    @classmethod
    def of(cls, key: Path | None, out: Path | None, issuer: str) -> "Signing | None":
        """The options of `cloister verify`, the key read; None if none was given."""
        if key is None:
            if out is not None:
                raise typer.BadParameter("--ear-out goes only with --ear-key")
            return None
        from attestation.ear import private_key

        return cls(private_key(_read(key)), out, issuer)

    @property
    def to_stdout(self) -> bool:
        """Whether the token itself is what the command prints."""
        return self.out is None

    def sign(self, verdict: "Verdict", nonce: bytes | None, policy_digest: bytes) -> None:
        """Write the verdict as a token."""
        from attestation.ear import sign_ear

        token = sign_ear(
            verdict,
            self.key,
            issuer=self.issuer,
            nonce=nonce,
            policy_digest=policy_digest,
            now=datetime.now(UTC),
        )
        if self.out is None:
            sys.stdout.write(f"{token}\n")
            return
        try:
            self.out.write_text(f"{token}\n")
        except OSError as error:
            raise typer.BadParameter(f"{self.out}: {error.strerror}") from None


def render(console: "Console", ear: "Ear", *, every: bool) -> None:
    """Print a result: who says so, about what, until when, and each subject's vector."""
    rows = (
        ("issuer", ear.issuer or "not named"),
        ("verifier", f"{ear.developer}, {ear.build}"),
        ("holds", f"{ear.issued_at:%Y-%m-%d %H:%M:%S} to {ear.expires_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("nonce", ear.nonce.hex() if ear.nonce else "none: the result may be replayed"),
        ("verdict", ear.verdict or "not stated"),
    )
    for name, value in rows:
        console.print(f"{name:<10}{_plain(value)}", soft_wrap=True, markup=False, highlight=False)
    for label, submodule in ear.submods.items():
        _submodule(console, label, submodule, every)
    if ear.simulated:
        console.print("SIMULATED: this worker protects nothing", style="bold yellow")
    console.print(f"\n{ear.status}", style=_COLOURS[ear.status])


def _submodule(console: "Console", label: str, submodule: "Submodule", every: bool) -> None:
    from attestation.trustworthiness import Tier

    def line(text: str, style: str = "") -> None:
        console.print(_plain(text), style=style, soft_wrap=True, markup=False, highlight=False)

    line("")
    line(f"{label}: {submodule.status}", _COLOURS[submodule.status])
    for claim, value in submodule.vector.items():
        line(f"  {claim:<20}{value:>4}  {Tier.of(value)}", _COLOURS[Tier.of(value)])
    for policy in submodule.policies:
        line(f"  policy {policy}")
    for row in submodule.checks:
        if every or row.get("outcome") != "pass":
            line(f"  {row.get('outcome', '?')!s:<12}{row.get('check', '?')}  {row.get('found', '')}")


def _plain(text: str) -> str:
    """`text` without control codes: a token is somebody else's."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _token(source: str) -> str:
    if source.count(".") == 2 and "/" not in source and len(source) > 100:
        return source
    return _read(Path(source)).decode("ascii", "replace").strip()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None
    if len(raw) > MAX_FILE:
        raise typer.BadParameter(f"{path}: more than {MAX_FILE} bytes")
    return raw


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise typer.BadParameter(f"--nonce {text!r} is not hexadecimal") from None
