"""Schemas that an answer can be held to, and those that are refused, each with the place of its fault."""

import json
import random
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from enclave.text.grammar import check, limits, of_schema
from enclave.text.json_schema import KEYWORDS, MAX_DEPTH, SchemaRefused, accept
from tests.running import FAQ

LAUGHS: dict[str, Any] = {f"x{at}": {"anyOf": [{"$ref": f"#/$defs/x{at + 1}"}] * 2} for at in range(40)}
LAUGHS["x40"] = {"type": "null"}
LOOP = {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/$defs/a"}}]}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "pointer", "words"),
    [
        ({"properties": {"a": {"not": {}}}}, "/properties/a/not", "cannot be honoured"),
        ({"x-guidance": {"whitespace_flexible": True}}, "/x-guidance", "cannot be honoured"),
        ({"patternProperties": {"(a+)+$": {}}}, "/patternProperties", "cannot be honoured"),
        ({"$ref": "#/$defs/a", "$defs": {"a": LOOP}}, "/$defs/a", "recursion"),
        ({"$ref": "#"}, "", "recursion"),
        ({"$ref": "#/$defs/x0", "$defs": LAUGHS}, "/$defs/x27", "with references followed"),
        ({"items": {"$ref": "https://example.com/x"}}, "/items/$ref", "names no schema"),
        ({"$ref": "#/$defs/none"}, "/$ref", "names no schema"),
        ({"type": "string", "pattern": "(?=a)"}, "/pattern", "linear time"),
        ({"type": "string", "pattern": "((a{1,1000}){1,1000}){1,1000}"}, "/pattern", "linear time"),
        ({"type": "string", "pattern": "a" * 513}, "/pattern", "512"),
        ({"type": "string", "format": "color"}, "/format", "date-time"),
        ({"minItems": 10**9}, "/minItems", "above"),
        ({"enum": list(range(2001))}, "", "2000"),
        ({"properties": {f"p{at}": {} for at in range(2001)}}, "/properties/p", "2000 schemas"),
        ({"properties": {"a/b~c": {"type": 5}}}, "/properties/a~1b~0c/type", "not valid"),
        ({"properties": []}, "/properties", "object"),
        ({"enum": ["x" * 200_000]}, "", "bytes"),
        ({"items": {"minimum": 1, "exclusiveMinimum": 0}}, "/items", "narrower"),
        ({"allOf": [{"maximum": 1}, {"exclusiveMaximum": 0}]}, "", "narrower"),
        ({"multipleOf": 9_999_991}, "/multipleOf", "exceed 30000"),
        ({"multipleOf": 0.00048828125}, "/multipleOf", "exceed 30000"),
        ({"multipleOf": 1e-300}, "/multipleOf", "exceed 30000"),
        ({"multipleOf": 1e300}, "/multipleOf", "exceed 30000"),
        ({"multipleOf": 10**400}, "/multipleOf", "exceed 30000"),
        ({"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]}, "/allOf/", "exceed 30000"),
        ({"allOf": [{"multipleOf": 9973}, {"multipleOf": 0.0001}]}, "/allOf/", "exceed 30000"),
        ([], "", "an object"),
        (None, "", "an object"),
    ],
)
def test_a_schema_that_cannot_be_honoured_says_where(schema: Any, pointer: str, words: str) -> None:
    with pytest.raises(SchemaRefused, match=words) as caught:
        accept(schema)
    assert caught.value.pointer.startswith(pointer)
    assert len(str(caught.value)) < 500


def test_depth_has_a_bound_and_deeper_is_refused_without_recursion() -> None:
    accept(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 5_000):
        with pytest.raises(SchemaRefused, match="deep"):
            accept(nested(depth))


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"oneOf": [{"type": "string"}, {"type": "string", "minLength": 4}]}, "oneOf"),
        ({"required": ["b"], "properties": {}, "additionalProperties": False, "type": "object"}, "b"),
        ({"allOf": [{"anyOf": [{"pattern": f"^{i}{j}"} for i in range(20)]} for j in range(6)]}, "large"),
    ],
)
def test_a_schema_that_does_not_compile_is_refused(schema: Any, words: str) -> None:
    with pytest.raises(SchemaRefused, match=words):
        check(accept(schema))


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "object"}, {"a": [1, "b", None]}, [1]),
        ({"enum": ["red", 3, None]}, 3, "blue"),
        ({"type": "string", "pattern": "^(a+)+$"}, "aaaa", "a" * 40 + "b"),
        ({"type": "array", "items": {"type": "integer", "maximum": 9}, "minItems": 2}, [1, 9], [1, 10]),
        ({"type": ["string", "null"], "maxLength": 3}, "abc", "abcd"),
        ({"anyOf": [{"const": {"x": 1}}, {"type": "boolean"}]}, {"x": 1}, {"x": 2}),
        ({"$ref": "#/$defs/%C3%A9", "$defs": {"é": {"type": "number"}}}, 1.5, "1.5"),
        ({"prefixItems": [{"type": "integer"}], "items": False, "type": "array"}, [1], [1, 2]),
        ({"type": "string", "format": "date"}, "2026-01-31", 5),
        ({"type": "number", "multipleOf": 0.1}, 9.6, 9.65),
        (True, [1], None),
    ],
)
def test_masks_and_validator_agree(schema: Any, good: Any, bad: Any) -> None:
    accepted = accept(schema)
    check(accepted)
    assert accepted.complaint(good) is None
    assert matches(of_schema(accepted), json.dumps(good, ensure_ascii=False))
    if schema is not True:
        assert accepted.complaint(bad)
        assert not matches(of_schema(accepted), json.dumps(bad))


@pytest.mark.parametrize(
    ("text", "fits"),
    [("1e999", False), ("-1e999", False), ("1e300", True), ("1234567890123456789012.1", True)],
)
def test_numbers_beyond_floats_are_judged_too(text: str, fits: bool) -> None:
    accepted = accept({"type": "number", "multipleOf": 0.1})
    assert (accepted.complaint(json.loads(text)) is None) is fits


def test_json_is_written_on_one_line_with_bounded_space() -> None:
    grammar = of_schema(accept({"type": "object"}))
    assert matches(grammar, '{"a": 1, "b": [1, 2]}')
    assert not matches(grammar, '{"a":  1}')
    assert not matches(grammar, '{\n"a": 1}')


@cache
def tokenizer() -> LLTokenizer:
    return LLTokenizer((FAQ / "tokenizer.json").read_text(), eos_token=2)


def matches(grammar: str, text: str) -> bool:
    matcher = LLMatcher(tokenizer(), grammar, limits=limits())
    ids = tokenizer().tokenize_str(text)
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


LEAVES = st.sampled_from(
    [
        {"type": "string", "maxLength": 3},
        {"type": "string", "pattern": "^[a-c]{1,3}$"},
        {"type": "string", "format": "date"},
        {"type": "integer", "minimum": -3, "exclusiveMaximum": 12},
        {"type": "number", "multipleOf": 0.1, "maximum": 3},
        {"enum": [1, "a", None, {"x": [1]}, 'b"\\']},
        {"type": ["boolean", "null"]},
        {"const": "é"},
    ]
)
NESTED = st.recursive(
    LEAVES,
    lambda inner: (
        inner.map(lambda item: {"type": "array", "items": item, "maxItems": 2})
        | st.lists(inner, min_size=1, max_size=2).map(lambda items: {"anyOf": items})
        | st.lists(inner, min_size=1, max_size=2).map(
            lambda items: {"type": "array", "prefixItems": items, "items": False}
        )
        | st.tuples(inner, inner, st.booleans()).map(
            lambda parts: {
                "type": "object",
                "properties": {"a": parts[0], "b c": parts[1]},
                "required": ["b c"] if parts[2] else [],
                "additionalProperties": False,
            }
        )
    ),
    max_leaves=4,
)


def walked(grammar: str, chance: random.Random) -> str | None:
    """Some text that the masks let through, preferring what ends it; None if it goes on for long."""
    matcher = LLMatcher(tokenizer(), grammar, limits=limits())
    ids: list[int] = []
    for _ in range(200):
        bits = matcher.compute_bitmask()
        allowed = [8 * at + bit for at, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1]
        if 2 in allowed and (len(allowed) == 1 or chance.random() < 0.5):
            return tokenizer().decode_str(ids)
        ending = [token for token in allowed if tokenizer().decode_bytes([token]) in (b'"', b"}", b"]")]
        some = ending if ending and chance.random() < 0.6 else [token for token in allowed if token != 2]
        ids.append(chance.choice(some))
        assert matcher.consume_token(ids[-1])
    return None


@settings(max_examples=120, deadline=None)
@given(schema=NESTED, seed=st.integers(0, 2**32))
def test_whatever_the_masks_let_through_the_validator_accepts(schema: dict[str, Any], seed: int) -> None:
    accepted = accept(schema)
    check(accepted)
    text = walked(of_schema(accepted), random.Random(seed))
    if text is not None:
        assert accepted.complaint(json.loads(text)) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70_000) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
SCHEMAS = st.recursive(
    st.dictionaries(st.sampled_from(sorted(KEYWORDS)), VALUES, max_size=3),
    lambda inner: st.dictionaries(
        st.sampled_from(["items", "anyOf", "properties", "$defs", "$ref", "type", "pattern"]),
        inner | st.lists(inner, max_size=2) | st.sampled_from(["#/$defs/a", "#/items", "#/anyOf/0"]),
        max_size=3,
    ),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(schema=SCHEMAS, value=VALUES)
def test_nothing_but_the_named_error_escapes(schema: Any, value: Any) -> None:
    try:
        accepted = accept(schema)
        check(accepted)
    except SchemaRefused as error:
        assert error.pointer == "" or error.pointer.startswith("/")
    else:
        accepted.complaint(value)
