"""JSON Schemas that an answer can be held to: bounded, no recursion, every keyword honoured. Or refused.

What is accepted here costs little to compile, little to mask and little to check again, whoever wrote it.
Patterns run on an engine without backtracking (Rust's, as pydantic brings it).
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final
from urllib.parse import unquote

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from pydantic_core import SchemaError as PatternError
from pydantic_core import SchemaValidator, core_schema

Schema = dict[str, Any] | bool

MAX_BYTES: Final = 96 * 1024
MAX_DEPTH: Final = 32
MAX_NODES: Final = 2_000
MAX_EXPANDED: Final = 20_000
"""Subschemas after every reference is replaced by what it names."""
MAX_CHOICES: Final = 2_000
MAX_COUNT: Final = 65_536
MAX_PATTERN: Final = 512
MAX_MULTIPLE: Final = 30_000
"""Least common multiple of every multipleOf, as whole numbers: remainders become states of the grammar."""
MAX_WORDS: Final = 300

_ANNOTATIONS = frozenset(
    ("$schema", "$comment", "title", "description", "default", "examples", "deprecated", "readOnly")
) | {"writeOnly", "discriminator"}
_COUNTS = frozenset(("minItems", "maxItems", "minLength", "maxLength"))
_NUMBERS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))
_MAPS = frozenset(("properties", "$defs", "definitions"))
_LISTS = frozenset(("anyOf", "oneOf", "allOf", "prefixItems"))
_SINGLE = frozenset(("items", "additionalProperties"))
_PLAIN = frozenset(("type", "required", "pattern", "format", "enum", "const", "$ref"))
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
)
KEYWORDS: Final = _ANNOTATIONS | _COUNTS | _NUMBERS | _MAPS | _LISTS | _SINGLE | _PLAIN


class SchemaRefused(Exception):
    """A schema that cannot be honoured. `pointer` (RFC 6901) says where in it."""

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"at {pointer or 'its root'}: {reason}")
        self.pointer = pointer


@dataclass(slots=True)
class _Node:
    schema: Schema
    children: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """A schema that was checked. Made by `accept` alone.

    `remainders` is how many of its numbers' multiples a grammar has to tell apart, at most MAX_MULTIPLE.
    """

    schema: Schema = field(repr=False)
    _validator: Any = field(repr=False, compare=False)
    remainders: int = 1

    def complaint(self, value: Any) -> str | None:
        """What is wrong with `value` in the validator's words, at most 300 characters; None if nothing."""
        try:
            self._validator.validate(value)
        except ValidationError as error:
            where = "".join(f"/{part}" for part in error.absolute_path) or "the whole"
            return f"{where}: {error.message}"[:MAX_WORDS]
        return None


def accept(schema: Any) -> AnswerSchema:
    """The schema, if an answer can be held to it; SchemaRefused otherwise."""
    _check_size(schema)
    try:
        _Checker.check_schema(schema, format_checker=None)
    except SchemaError as error:
        raise SchemaRefused(_pointer(error.absolute_path), error.message[:MAX_WORDS]) from None
    nodes = dict(_nodes(schema))
    choices = 0
    for pointer, node in nodes.items():
        choices += _check_node(pointer, node.schema)
        if choices > MAX_CHOICES:
            raise SchemaRefused(pointer, f"enum and const hold more than {MAX_CHOICES} values together")
    remainders = _count_remainders(nodes)
    _follow_references(nodes)
    return AnswerSchema(schema, _Checker(schema), remainders)


def _check_size(schema: Any) -> None:
    """Bounds on bytes, depth and nodes, before anything recursive looks at it."""
    if not isinstance(schema, dict | bool):
        raise SchemaRefused("", "a schema is an object, true or false")
    layer, depth = [("", schema)], 0
    while layer:
        if depth > 2 * MAX_DEPTH:
            raise SchemaRefused(layer[0][0], "nested too deeply")
        layer = [inner for pointer, value in layer for inner in _inside(pointer, value)]
        if len(layer) > MAX_BYTES:
            raise SchemaRefused("", f"larger than {MAX_BYTES} bytes")
        depth += 1
    if len(json.dumps(schema)) > MAX_BYTES:
        raise SchemaRefused("", f"larger than {MAX_BYTES} bytes")


def _inside(pointer: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"{pointer}/{_escape(key)}", item) for key, item in value.items())
    elif isinstance(value, list):
        yield from ((f"{pointer}/{at}", item) for at, item in enumerate(value))


def _nodes(root: Schema) -> Iterator[tuple[str, _Node]]:
    """Every subschema with its pointer; SchemaRefused beyond the bounds."""
    stack: list[tuple[str, Schema, int]] = [("", root, 0)]
    count = 0
    while stack:
        pointer, schema, depth = stack.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise SchemaRefused(pointer, f"nested more than {MAX_DEPTH} schemas deep")
        if count > MAX_NODES:
            raise SchemaRefused(pointer, f"more than {MAX_NODES} schemas")
        node = _Node(schema)
        for where, child, used in _subschemas(pointer, schema):
            if used:
                node.children.append(where)
            stack.append((where, child, depth + 1))
        yield pointer, node


def _subschemas(pointer: str, schema: Schema) -> Iterator[tuple[str, Schema, bool]]:
    """Pointer, subschema, and whether it applies where it stands (definitions apply only by reference)."""
    if isinstance(schema, bool):
        return
    for keyword, value in schema.items():
        where = f"{pointer}/{_escape(keyword)}"
        if keyword in _MAPS:
            for name, child in value.items():
                yield f"{where}/{_escape(name)}", child, keyword == "properties"
        elif keyword in _LISTS:
            for at, child in enumerate(value):
                yield f"{where}/{at}", child, True
        elif keyword in _SINGLE:
            yield where, value, True


def _check_node(pointer: str, schema: Schema) -> int:
    """SchemaRefused for a keyword that is not honoured; else how many choices the node lists."""
    if isinstance(schema, bool):
        return 0
    for keyword, value in schema.items():
        where = f"{pointer}/{_escape(keyword)}"
        if keyword not in KEYWORDS:
            raise SchemaRefused(where, f"{keyword!r} cannot be honoured; leave it out")
        if keyword in _COUNTS and value > MAX_COUNT:
            raise SchemaRefused(where, f"above {MAX_COUNT}")
        if keyword == "pattern":
            _check_pattern(where, value)
        if keyword == "format" and value not in _FORMATS:
            raise SchemaRefused(where, f"format {value!r} is unknown; known: {', '.join(sorted(_FORMATS))}")
    _check_bounds(pointer, schema)
    return len(schema.get("enum", ())) + ("const" in schema)


def _check_bounds(pointer: str, schema: dict[str, Any]) -> None:
    """One lower and one upper bound of a number, alternatives that must hold together included."""
    together = [schema, *(part for part in schema.get("allOf", ()) if isinstance(part, dict))]
    stated = {keyword for part in together for keyword in part}
    for end in ("minimum", "maximum"):
        exclusive = f"exclusive{end.capitalize()}"
        if {end, exclusive} <= stated:
            raise SchemaRefused(pointer, f"{end} and {exclusive} for one number: state the narrower alone")


def _count_remainders(nodes: dict[str, _Node]) -> int:
    """SchemaRefused for multiples that are large, by themselves or where several must hold together."""
    found: list[Fraction] = []
    for pointer, node in nodes.items():
        if isinstance(node.schema, dict) and "multipleOf" in node.schema:
            found.append(_decimal(node.schema["multipleOf"]))
            if not 0 < _together(found) <= MAX_MULTIPLE:
                where = f"{pointer}/multipleOf"
                raise SchemaRefused(where, f"in the units of the smallest, multiples exceed {MAX_MULTIPLE}")
    return _together(found)


def _decimal(number: float) -> Fraction:
    return Fraction(repr(number)) if abs(number) < 1e15 else Fraction(0)


def _together(found: list[Fraction]) -> int:
    """Their least common multiple, in units of a power of ten that makes all of them whole."""
    unit = next((10**at for at in range(16) if all((10**at) % one.denominator == 0 for one in found)), 0)
    return math.lcm(*(int(one * unit) for one in found))


def _check_pattern(where: str, pattern: str) -> None:
    if len(pattern) > MAX_PATTERN:
        raise SchemaRefused(where, f"a pattern of more than {MAX_PATTERN} characters")
    try:
        _matcher(pattern)
    except PatternError:
        raise SchemaRefused(where, "not a regular expression that can be run in linear time") from None


def _follow_references(nodes: dict[str, _Node]) -> None:
    """SchemaRefused for references that lead nowhere, to themselves, or to too much."""
    for pointer, node in nodes.items():
        if isinstance(node.schema, dict) and "$ref" in node.schema:
            node.children.append(_target(pointer, node.schema["$ref"], nodes))
    sizes: dict[str, int] = {}
    for pointer in nodes:
        _measure(pointer, nodes, sizes)


def _target(pointer: str, reference: str, nodes: dict[str, _Node]) -> str:
    target = unquote(reference[1:])
    if not reference.startswith("#") or target not in nodes:
        raise SchemaRefused(f"{pointer}/$ref", f"{reference[:80]!r} names no schema in this document")
    return target


def _measure(root: str, nodes: dict[str, _Node], sizes: dict[str, int]) -> None:
    """Fill `sizes` with the expanded size of everything below `root`. SchemaRefused for a cycle."""
    open_nodes: set[str] = set()
    stack = [(root, False)]
    while stack:
        pointer, leaving = stack.pop()
        if leaving:
            open_nodes.discard(pointer)
            sizes[pointer] = 1 + sum(sizes[child] for child in nodes[pointer].children)
            if sizes[pointer] > MAX_EXPANDED:
                raise SchemaRefused(pointer, f"more than {MAX_EXPANDED} schemas with references followed")
        elif pointer in open_nodes:
            raise SchemaRefused(pointer, "refers to itself; recursion is not supported")
        elif pointer not in sizes:
            open_nodes.add(pointer)
            stack.append((pointer, True))
            stack += [(child, False) for child in nodes[pointer].children]


def _matcher(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=pattern))


def _match(_: Any, pattern: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _matcher(pattern).isinstance_python(value):
        yield ValidationError(f"{value[:80]!r} does not match {pattern!r}")


def _multiple(_: Any, factor: float, value: Any, schema: Any) -> Iterator[ValidationError]:
    """As decimals: in binary 9.6 would be no multiple of 0.1."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        whole = math.isfinite(value) and (Fraction(repr(value)) / Fraction(repr(factor))).denominator == 1
        if not whole:
            yield ValidationError(f"{value!r} is not a multiple of {factor!r}")


_OWN = {"pattern": _match, "multipleOf": _multiple}
_Checker: Any = extend(Draft202012Validator, _OWN)  # type: ignore[no-untyped-call]


def _pointer(path: Iterable[object]) -> str:
    return "".join(f"/{_escape(str(part))}" for part in path)


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
