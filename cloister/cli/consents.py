"""`cloister consent`: terms into a manifest, a signature of each party, and whether all of them hold."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sealing.consent import Consent, Manifest

app = typer.Typer(name="consent", help="What several parties agree to run together.", no_args_is_help=True)

ConsentFile = Annotated[Path, typer.Argument(help="A consent, as `cloister consent new` wrote it.")]
MAX_TERMS = 256 * 1024


@app.callback()
def options() -> None:
    """What several parties agree to run together: signed by each, held to by the worker."""


@app.command("new")
def new(
    terms: Annotated[Path, typer.Argument(help="The terms (TOML), see docs/spec/consent.md.")],
    out: Annotated[Path, typer.Option(help="Where to write the consent, for the parties to sign.")],
) -> None:
    """Write a consent that nobody has signed yet."""
    from client.artifacts.keys import read_signer
    from client.consenting import manifest_from_terms
    from sealing.consent import Consent

    text = _read(terms, MAX_TERMS).decode("utf-8", "replace")
    manifest = manifest_from_terms(text, lambda name: read_signer(terms.parent / name))
    out.write_bytes(Consent(manifest=manifest).to_bytes())
    _show(manifest, {party.name: "missing" for party in manifest.parties})
    sys.stdout.write(f"written to {out}; each party signs it with `cloister consent sign`\n")


@app.command("sign")
def sign(
    consent: ConsentFile,
    key: Annotated[Path, typer.Option(help="PEM file of a party's private key, see `cloister owner-key`.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write it; over the file itself if left out.")
    ] = None,
    digest: Annotated[
        str | None, typer.Option(help="sha256:... that `show` printed: nothing else is signed.")
    ] = None,
) -> None:
    """Sign what is agreed to with one party's key, and show it.

    What was read with `show` may not be what lies there now, if others can write there: name its digest.
    """
    from client.artifacts.keys import read_owner_key
    from sealing.errors import ConsentRefused

    from .sealing import passphrase

    found = _consent(consent)
    if digest is not None and digest.strip() != found.manifest.digest:
        raise ConsentRefused(
            f"{consent} is {found.manifest.digest} by now, not what you read; nothing was signed"
        )
    signed = found.signed_by(read_owner_key(key, passphrase=passphrase()))
    (out or consent).write_bytes(signed.to_bytes())
    _show(signed.manifest, signed.standing())


@app.command("show")
def show(consent: ConsentFile) -> None:
    """Show what a consent says and whose signatures hold."""
    found = _consent(consent)
    _show(found.manifest, found.standing())


@app.command("verify")
def verify(consent: ConsentFile) -> None:
    """Exit 0 if every party's signature holds and it has not expired, else 10 with the reason."""
    manifest = _consent(consent).check(int(datetime.now(UTC).timestamp()))
    sys.stdout.write(f"{manifest.digest}  signed by {', '.join(p.name for p in manifest.parties)}\n")


def _show(manifest: "Manifest", standing: Mapping[str, str]) -> None:
    from client.consenting import describe

    from .failures import printable

    rows = [*describe(manifest), *(("signature", f"{name}: {word}") for name, word in standing.items())]
    for name, value in rows:
        sys.stdout.write(f"{name:<12}{printable(value)}\n")


def _consent(path: Path) -> "Consent":
    from attestation import MalformedEvidence
    from sealing.consent import MAX_FILE, Consent
    from sealing.errors import MalformedDocument

    try:
        return Consent.from_bytes(_read(path, MAX_FILE))
    except MalformedDocument as error:
        raise MalformedEvidence(f"{path} is not a consent: {error}") from None


def _read(path: Path, limit: int) -> bytes:
    from client.errors import TermsError

    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise TermsError(f"{path}: {error.strerror}") from None
    if len(raw) > limit:
        raise TermsError(f"{path}: more than {limit} bytes")
    return raw
