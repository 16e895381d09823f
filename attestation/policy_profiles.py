"""Policies to start from, what a policy says in plain words, and what it weakens.

A profile is a commented file whose values to fill in stand where they cannot parse: until they are
replaced, `Policy.from_toml` refuses it and names the key.
"""

import json
import textwrap
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

from .errors import PolicyError
from .policy import SECTIONS, TEES, Policy
from .policy_guide import GUIDES, TOP, Guide, Key, Kind, Statement, Writing, fill

ROOTS, MAX_VERDICT_AGE, CLOCKS = "roots", "max_verdict_age", "clocks"
_THE_SIMULATORS = {"products", "minimum_tcb"}
_MEASURED = "as `cloister measure --write-policy FILE` writes it"
_SPELLED = {"snp": "sev-snp"}
"""Sections that evidence, and with it the command line, calls otherwise. Both words are taken."""
_SIMULATED = (
    "# SIMULATED: what this policy trusts signs for anybody. It shows the way and protects nothing.",
    "# `cloister measure --write-policy FILE` writes this policy with all values filled in.",
)


def tee_names() -> list[str]:
    """The kinds of evidence that a profile can be made for, as the command line spells them."""
    return [_spelled(name) for name in (*TEES, *_companions()) if name in GUIDES]


def profile(tees: Iterable[str], *, strict: bool = False, simulator: bool = False) -> str:
    """A policy in TOML for `tees` (names of `tee_names`), with a comment for every key.

    `strict` also writes the restrictions that are optional, such as lists of chips. `simulator`
    trusts the simulator's root instead of vendors'. PolicyError for an unknown kind, none at all, or
    one that the simulator cannot show.
    """
    names = list(dict.fromkeys(map(section_of, tees)))
    if not set(names) & TEES.keys():
        raise PolicyError(f"name the hardware or service: {', '.join(tee_names())}")
    guides = {name: GUIDES[name] for name in names}
    for name, guide in guides.items():
        if simulator and not guide.simulator:
            raise PolicyError(f"the simulator does not show {name}")
    if any(guide.bundle for guide in guides.values()):
        guides = {"workload": GUIDES["workload"], **guides}
    lines = [*_opening(guides.values(), simulator=simulator), *_top(guides.values(), strict, simulator)]
    for name, guide in guides.items():
        keys = _for_simulator(guide.keys) if simulator else guide.keys
        lines += ["", f"[{name}]", *_wrapped(guide.title), *_wrapped(*guide.notes), *_keys(keys, strict)]
    return "\n".join(lines) + "\n"


def unfilled(text: str) -> list[str]:
    """The keys of a profile that still hold a FILL-IN, with what is wanted; empty for what is not TOML."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return []
    return [f"{name}: {value}" for name, value in _strings("", table) if value.startswith("FILL-IN")]


def _strings(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(f"{name}.{key}" if name else key, item)


@dataclass(frozen=True, slots=True)
class Said:
    """A statement about one section; `field` is the policy object's own name for it."""

    section: str
    field: str
    kind: Kind
    text: str


def explain(policy: Policy) -> tuple[Said, ...]:
    """Everything that `policy` says, field by field, in the order of its sections."""
    said = list(_explained("", policy, TOP, skip=SECTIONS.keys()))
    for name in SECTIONS:
        section = getattr(policy, name)
        if section is not None:
            said += _explained(name, section, GUIDES[name])
    return (*said, *_absent(policy))


def _explained(name: str, section: object, guide: Guide, skip: Iterable[str] = ()) -> Iterator[Said]:
    left_out = set(skip)
    for field in fields(section):  # type: ignore[arg-type]  # a dataclass, as every section is
        if field.name not in left_out:
            statement: Statement = guide.fields[field.name](getattr(section, field.name))
            yield Said(name, field.name, statement.kind, statement.text)


def _absent(policy: Policy) -> Iterator[Said]:
    """What a reader would look for and the policy has no section for."""
    if policy.workload is None:
        text = (
            "no [workload] section: a bundle from a worker is not accepted, other evidence says nothing of it"
        )
        yield Said("workload", "", Kind.OPEN, text)
    if policy.nvidia_gpu is None and (policy.snp or policy.tdx):
        yield Said("nvidia_gpu", "", Kind.OPEN, "no [nvidia_gpu] section: no GPU is asked for or accepted")
    refused = [name for name in TEES if getattr(policy, name) is None]
    if refused:
        yield Said("", "", Kind.DEMANDED, f"evidence without a section is refused: {', '.join(refused)}")


def _companions() -> list[str]:
    return [name for name in SECTIONS if name not in TEES and name != "workload"]


def section_of(tee: str) -> str:
    """The policy section for a name of `tee_names`. PolicyError for another."""
    sections = {_spelled(name): name for name in (*TEES, *_companions()) if name in GUIDES}
    section: str | None = sections.get(_SPELLED.get(tee, tee))
    if section is None:
        raise PolicyError(f"{tee!r} is unknown; choose from {', '.join(sections)}")
    return section


def _spelled(section: str) -> str:
    return _SPELLED.get(section, section.replace("_", "-"))


def _opening(guides: Iterable[Guide], *, simulator: bool) -> list[str]:
    if simulator:
        return list(_SIMULATED)
    return [
        "# Replace every FILL-IN; until then the file is refused. A line behind '#' is not in force.",
        "# `cloister policy check FILE` says what is missing, `cloister policy explain FILE` what it means.",
    ]


def _top(guides: Iterable[Guide], strict: bool, simulator: bool) -> list[str]:
    roots = ["simulator"] if simulator else sorted({root for guide in guides for root in guide.roots})
    named = json.dumps(roots) if roots else ""
    keys = []
    for key in TOP.keys:
        value = named if key.name == ROOTS and named else key.value
        keys.append(_with_value(key, "300" if strict and key.name == MAX_VERDICT_AGE else value))
    return list(_keys(keys, strict))


def _for_simulator(keys: Iterable[Key]) -> Iterator[Key]:
    """The same keys; the host's clock is all that a simulated worker has, and its levels are its own."""
    for key in keys:
        if key.name == CLOCKS:
            yield _with_value(key, key.value, Writing.ALWAYS)
        else:
            yield _with_value(key, fill(_MEASURED) if key.name in _THE_SIMULATORS else key.value)


def _with_value(key: Key, value: str, writing: Writing | None = None) -> Key:
    return Key(
        name=key.name,
        type=key.type,
        default=key.default,
        meaning=key.meaning,
        weakens=key.weakens,
        value=value,
        writing=writing or key.writing,
    )


def _keys(keys: Iterable[Key], strict: bool) -> Iterator[str]:
    for key in keys:
        yield from ("", *_wrapped(key.meaning, f"{key.type}; default: {key.default}"))
        if key.weakens:
            yield from _wrapped(f"Weakening: {key.weakens}")
        written = key.writing is Writing.ALWAYS or (strict and key.writing is Writing.STRICT)
        yield f"{'' if written else '#'}{key.name} = {key.value}"


def _wrapped(*texts: str) -> list[str]:
    return [f"# {line}" for text in texts for line in textwrap.wrap(text, 100)]
