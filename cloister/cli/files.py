"""Files that a person names on the command line: read whole, bounded, folders flattened."""

import sys
from pathlib import Path

import typer

from attestation import Collateral, MalformedEvidence, Policy, PolicyError
from attestation.collateral_store import read_bundle
from attestation.vendor_collateral import collateral_in, of_a_quote

MAX_FILE = 16 * 1024 * 1024
TOKEN_START = "eyJ"  # noqa: S105


def read_sources(sources: list[str]) -> dict[str, bytes]:
    """The files of `sources` by name: a file, every file of a folder, or a token spelled out."""
    files: dict[str, bytes] = {}
    for source in sources:
        if source.startswith(TOKEN_START) and source.count(".") == 2:
            files["token"] = source.encode()
            continue
        path = Path(source)
        files |= {str(item): read_file(item) for item in (_entries(path) if path.is_dir() else [path])}
    return files


def read_collateral(paths: list[Path]) -> Collateral:
    """The collateral in bundles (`cloister collateral export`), in folders of the vendors' own files, and
    in the one file that verification libraries make of a quote's.
    """
    found = Collateral()
    for path in paths:
        if path.is_dir():
            found = found.merged(collateral_in({str(item): read_file(item) for item in _entries(path)}))
            continue
        raw = read_file(path)
        found = found.merged(collateral_in({str(path): raw}) if of_a_quote(raw) else read_bundle(raw))
    return found


def read_file(path: Path, limit: int = MAX_FILE) -> bytes:
    """What a file holds. typer.BadParameter if it cannot be read, MalformedEvidence above `limit` bytes."""
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None
    if len(raw) > limit:
        raise MalformedEvidence(f"{path}: more than {limit} bytes")
    return raw


def unhex(name: str, text: str | None) -> bytes | None:
    """The bytes of an option given in hexadecimal; typer.BadParameter names the option."""
    if text is None:
        return None
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise typer.BadParameter(f"--{name} {text!r} is not hexadecimal") from None


def read_policy(file: Path) -> Policy:
    """The policy in `file`; PolicyError names it, after what is still to be filled in went to stderr."""
    try:
        return Policy.from_file(file)
    except PolicyError:
        from attestation.policy_profiles import unfilled

        for line in unfilled(file.read_text("utf-8", "replace")) if file.is_file() else []:
            sys.stderr.write(f"{line}\n")
        raise


def _entries(folder: Path) -> list[Path]:
    return sorted(item for item in folder.iterdir() if item.is_file() and not item.name.startswith("."))
