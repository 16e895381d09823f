"""Tokens of any bytes: judged or malformed, and no character of a signed one can change."""

import json
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.encoding import b64url_encode
from attestation.errors import MalformedEvidence
from attestation.maa import Token
from tests.attestation.clouds import accepted, case, mutated, parses
from tests.attestation.test_maa_checks import ISOLATION, KEY, claims, genuine_sheet, judge


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b",
        "e30.e30.e30.e30",
        "e30.W10.AA",
        "e30=.e30.AA",
        jwt.encode(claims(), KEY, algorithm="RS256", headers={"crit": ["x"], "x": 1}),
        b64url_encode(b'{"alg":"RS256","alg":"none"}') + ".e30.AA",
        "é.e30.AA",
    ],
)
def test_malformed_tokens(text: str) -> None:
    with pytest.raises(MalformedEvidence):
        Token.from_compact(text)


def test_no_character_of_a_genuine_token_can_change() -> None:
    genuine = case("azure-maa/windows-cvm-2023")
    text = genuine.must("token.jwt").decode().strip()
    for index, character in enumerate(text):
        changed = text[:index] + ("A" if character != "A" else "B") + text[index + 1 :]
        try:
            assert not accepted(genuine_sheet(genuine, changed)), index
        except MalformedEvidence:
            continue


@settings(deadline=None)
@given(data=st.data())
def test_mutated_tokens_are_judged_or_malformed(data: st.DataObject) -> None:
    genuine = case("azure-maa/windows-cvm-2023")
    good = genuine.must("token.jwt").strip()
    raw = data.draw(st.one_of(st.binary(max_size=100), mutated(good)))
    sheet = parses(lambda changed: genuine_sheet(genuine, changed.decode("latin-1")), raw)
    assert sheet is None or raw == good or not accepted(sheet)


@settings(deadline=None)
@given(
    made=st.dictionaries(
        st.sampled_from(sorted(claims() | ISOLATION)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2)
            ),
            max_leaves=4,
        ),
    )
)
def test_any_claims_are_judged(made: dict[str, Any]) -> None:
    unsigned = b64url_encode(b'{"alg":"RS256"}') + "." + b64url_encode(json.dumps(made).encode()) + ".AA"
    sheet = parses(lambda _: judge(unsigned), b"")
    assert sheet is None or not accepted(sheet)
