"""Answers held to a grammar: every one matches, others are not touched, bad grammars are refused."""

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tokenizers import Tokenizer

from enclave.engine.embedded import EmbeddedEngine
from enclave.engine.grammar import MAX_CHARACTERS, Grammars, regex_grammar, schema_grammar
from enclave.engine.interface import InvalidRequest, ModelRefused, Sampling
from tests.engine.models import collect, drain, expected, load, request

FAQ = Path(__file__).resolve().parents[2] / "models" / "faq" / "model"
PROMPT = (5, 9, 33, 60)
WILD = Sampling(temperature=1.5, seed=3)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def engine() -> Iterator[EmbeddedEngine]:
    yield load(FAQ, kv_tokens=4096)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FAQ / "tokenizer.json"))


def test_answers_follow_their_own_grammar_beside_free_ones(
    engine: EmbeddedEngine, tokenizer: Tokenizer
) -> None:
    assert engine.grammars
    grammars = {"json": schema_grammar(SCHEMA), "date": regex_grammar(r"20[0-9]{2}-[01][0-9]")}
    for row in range(4):
        for name, grammar in grammars.items():
            sampling = Sampling(temperature=1.5, seed=row)
            engine.submit(request(f"{name}{row}", PROMPT, 200, grammar=grammar, sampling=sampling))
    engine.submit(request("free", PROMPT, 30))
    tokens, ends = drain(engine)
    assert {ends[f"{name}{row}"].finish for name in grammars for row in range(4)} == {"stop"}
    for row in range(4):
        jsonschema.validate(json.loads(tokenizer.decode(tokens[f"json{row}"])), SCHEMA)
        assert re.fullmatch(r"20[0-9]{2}-[01][0-9]", tokenizer.decode(tokens[f"date{row}"]))
    assert tokens["free"] == expected(FAQ, PROMPT, 30)


def test_an_end_token_is_chosen_only_where_the_grammar_may_end(
    engine: EmbeddedEngine, tokenizer: Tokenizer
) -> None:
    bias = ((2, 100.0),)  # the end token, whenever it is allowed
    sampling = Sampling(temperature=0, logit_bias=bias)
    engine.submit(request("x", PROMPT, 50, grammar=regex_grammar(r"[a-z]{4}[a-z]*"), sampling=sampling))
    tokens, ends = drain(engine)
    assert ends["x"].finish == "stop"
    assert 4 <= len(tokenizer.decode(tokens["x"])) < 4 + 20


def test_a_preempted_answer_goes_on_in_its_grammar(tokenizer: Tokenizer) -> None:
    engine = load(FAQ, kv_tokens=96, block_tokens=4)
    for row in range(4):
        fields = {"grammar": schema_grammar(SCHEMA), "sampling": Sampling(temperature=1.5, seed=row)}
        engine.submit(request(str(row), PROMPT, 90, **fields))
    tokens, ends = drain(engine)
    assert engine.stats().preemptions > 0
    for row in range(4):
        if ends[str(row)].finish == "stop":
            jsonschema.validate(json.loads(tokenizer.decode(tokens[str(row)])), SCHEMA)


REFUSED = {
    "no grammar": "not json {{",
    "another form": '{"grammars": 1}',
    "too long": "x" * (MAX_CHARACTERS + 1),
    "a bad regex": regex_grammar("(a"),
    "an unknown keyword": schema_grammar({"type": "object", "unevaluatedProperties": False}),
    "no such type": schema_grammar({"type": "nothing"}),
    "no value at all": schema_grammar({"allOf": [{"type": "string"}, {"type": "integer"}]}),
    "a large one": schema_grammar(
        {"type": "object", "properties": {f"property{at}": {"type": "string"} for at in range(4000)}}
    )[:MAX_CHARACTERS],
    "an explosion": schema_grammar(
        {
            "allOf": [
                {"anyOf": [{"properties": {f"k{one}{two}": {"type": "string"}}} for two in range(12)]}
                for one in range(6)
            ]
        }
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_grammar_that_cannot_be_followed_is_refused_with_its_reason(
    engine: EmbeddedEngine, case: str
) -> None:
    bad = request("bad", PROMPT, 20, grammar=REFUSED[case])
    with pytest.raises(InvalidRequest, match="grammar"):
        engine.prepare(bad)
    engine.submit(request("good", PROMPT, 10))
    engine.submit(bad)
    tokens, ends = drain(engine)
    assert ends["bad"].finish == "error"
    assert "grammar" in (ends["bad"].error or "")
    assert tokens["good"] == expected(FAQ, PROMPT, 10)


def test_compiling_happens_beside_other_peoples_steps(
    engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, grammars = threading.Event(), engine._grammars
    assert grammars is not None
    compile_now = grammars.compile
    monkeypatch.setattr(grammars, "compile", lambda *args: gate.wait(10) and compile_now(*args))
    engine.submit(request("slow", PROMPT, 20, grammar=regex_grammar("[ab]{3}")))
    engine.submit(request("cancelled", PROMPT, 20, grammar=regex_grammar("[ab]{3}")))
    engine.submit(request("quick", PROMPT, 5, eos=frozenset()))
    with pytest.raises(InvalidRequest, match="already"):
        engine.submit(request("slow", PROMPT, 20))
    engine.cancel("cancelled")
    tokens: dict[str, list[int]] = {}
    ends: dict = {}
    while "quick" not in ends:
        collect(engine.step(), tokens, ends)
    assert engine.has_work()
    assert engine.stats().waiting == 1
    gate.set()
    while engine.has_work():
        collect(engine.step(), tokens, ends)
    assert ends["slow"].finish == "stop"
    assert ends["cancelled"].finish == "cancelled"


def test_without_a_usable_tokenizer_there_are_no_grammars(llama: Path) -> None:
    engine = load(llama)
    assert not engine.grammars
    with pytest.raises(InvalidRequest, match="tokenizer"):
        engine.prepare(request("x", PROMPT, grammar=regex_grammar("a")))
    with pytest.raises(InvalidRequest, match="tokenizer"):
        engine.submit(request("x", PROMPT, grammar=regex_grammar("a")))
    with pytest.raises(ModelRefused):
        Grammars(b"{}", 97)
