"""The terms of a consent, as a person writes them: a TOML file into a manifest to sign."""

import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from attestation import PolicyError
from attestation.section import Section
from sealing.consent import Loaded, Manifest, OutputRules, Party, canonical_schema
from sealing.cose import Signer
from sealing.errors import SealingError

from .errors import TermsError

ReadKey = Callable[[str], Signer]
"""The public key in a file that the terms name."""


def manifest_from_terms(text: str, read_key: ReadKey) -> Manifest:
    """The manifest that the TOML terms in `text` describe; TermsError names the key that is wrong.

    docs/spec/consent.md, section 4, has an example.
    """
    try:
        return _manifest(tomllib.loads(text), read_key)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise TermsError(f"not TOML: {error}") from None
    except PolicyError as error:
        raise TermsError(str(error)) from None


def _manifest(table: dict[str, Any], read_key: ReadKey) -> Manifest:
    terms = Section("", table)
    terms.integer("version", 1, 1)
    manifest = Manifest(
        title=terms.take("title", str, hint="say in a line what the parties do together"),
        base=terms.table("base", _loaded),
        adapters=tuple(_each(terms, "adapters", _loaded)),
        data=tuple(_each(terms, "data", _documents)),
        measurement=terms.digest("measurement", 48),
        output=terms.table("output", _rules),
        parties=tuple(_each(terms, "parties", lambda section: _party(section, read_key))),
        expires=int(terms.instant("expires").astimezone(UTC).timestamp()),
    )
    terms.close()
    return _sound(manifest)


def _sound(manifest: Manifest) -> Manifest:
    """The manifest as it reads back; PolicyError for what the format does not take."""
    try:
        return Manifest.from_bytes(manifest.to_bytes())
    except SealingError as error:
        raise PolicyError(str(error)) from None


def _each(terms: Section, key: str, parse: Callable[[Section], Any]) -> list[Any]:
    found = []
    for index, item in enumerate(terms.take(key, list, [])):
        if not isinstance(item, dict):
            raise PolicyError(f"{key} is not an array of tables: write [[{key}]]")
        section = Section(f"{key}[{index}]", item)
        found.append(parse(section))
        section.close()
    return found


def _loaded(section: Section) -> Loaded:
    return Loaded(name=section.take("name", str), root=section.digest("root", 32), owner=_owner(section))


def _owner(section: Section) -> bytes | None:
    return section.digest("owner", 32, "") if "owner" in section else None


def _documents(section: Section) -> Loaded:
    hint = "name the parties to whom passages may be quoted"
    readers = tuple(sorted(section.texts("readers", hint=hint)))
    return Loaded(
        name=section.take("name", str),
        root=section.digest("root", 32),
        owner=_owner(section),
        readers=readers,
    )


def _rules(section: Section) -> OutputRules:
    schema = section.take("schema", dict, {})
    try:
        text = canonical_schema(schema) if schema else None
    except ValueError as error:
        raise PolicyError(f"output.schema: {error}") from None
    tokens = section.integer("max_tokens", 1, 1 << 20)
    return OutputRules(max_tokens=tokens, logprobs=section.flag("allow_logprobs"), schema=text)


def _party(section: Section, read_key: ReadKey) -> Party:
    return Party(
        name=section.take("name", str),
        role=section.take("role", str),
        signer=read_key(section.take("key", str, hint="the PEM file of the party's public key")),
    )


def describe(manifest: Manifest) -> list[tuple[str, str]]:
    """What a manifest says, as lines of a name and a value."""
    rules = manifest.output
    rows = [
        ("title", manifest.title),
        ("digest", manifest.digest),
        ("base model", _named(manifest.base)),
        *(("adapter", _named(item)) for item in manifest.adapters),
        *(("documents", f"{_named(d)}, quoted to {_listed(d.readers)}") for d in manifest.data),
        ("code", manifest.measurement.hex()),
        ("output", f"at most {rules.max_tokens} tokens; log-probabilities {_allowed(rules.logprobs)}"),
        *([("schema", rules.schema)] if rules.schema is not None else []),
        *(("party", f"{p.name}, {p.role}, key {p.signer.hash.hex()}") for p in manifest.parties),
        ("expires", datetime.fromtimestamp(manifest.expires, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")),
    ]
    return rows


def _named(item: Loaded) -> str:
    owner = f", sealed by {item.owner.hex()}" if item.owner else ""
    return f"{item.name} {item.root.hex()}{owner}"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nobody"


def _allowed(flag: bool) -> str:
    return "allowed" if flag else "refused"
