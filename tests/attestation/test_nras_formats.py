"""NRAS responses of any bytes: judged or malformed, and no character of a signed one can change."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.encoding import b64url_encode
from attestation.errors import MalformedEvidence
from attestation.nras import NrasResponse
from tests.attestation.clouds import accepted, case, mutated, parses
from tests.attestation.test_nras_checks import DEVICE, genuine_sheets, judge, response, token


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"{}",
        b"[[]]",
        b'[["JWT"]]',
        b'[["JWT", 1], {}]',
        b'[["JWT", "a.b.c"], {}]',
        response()[:-1],
        response() + b"x",
        json.dumps([["JWT", token({})], []]).encode(),
        json.dumps([["JWT", token({})], {"GPU-0": 1}]).encode(),
        json.dumps([["JWT", token({})], {"GPU-0": token({})}, {"GPU-0": token({})}]).encode(),
        json.dumps([["JWT", token({})], {f"GPU-{i}": token({}) for i in range(65)}]).encode(),
    ],
)
def test_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        NrasResponse.from_bytes(raw)


def test_no_character_of_a_genuine_response_can_change() -> None:
    genuine = case("nvidia-nras/v3-single-h100")
    overall, devices = json.loads(genuine.must("nras_response.json"))
    for place in ("overall", "device"):
        text = overall[1] if place == "overall" else devices["GPU-0"]
        for index, character in enumerate(text):
            changed = text[:index] + ("A" if character != "A" else "B") + text[index + 1 :]
            first, second = (changed, devices["GPU-0"]) if place == "overall" else (overall[1], changed)
            raw = json.dumps([["JWT", first], {"GPU-0": second}]).encode()
            try:
                assert not accepted(*genuine_sheets(genuine, raw)), (place, index)
            except MalformedEvidence:
                continue


@settings(deadline=None)
@given(data=st.data())
def test_mutated_responses_are_judged_or_malformed(data: st.DataObject) -> None:
    genuine = case("nvidia-nras/v3-single-h100")
    raw = data.draw(st.one_of(st.binary(max_size=100), mutated(genuine.must("nras_response.json"))))
    parses(lambda changed: genuine_sheets(genuine, changed), raw)


@settings(deadline=None)
@given(
    data=st.dictionaries(
        st.sampled_from(
            [*DEVICE, "submods", "x-nvidia-overall-att-result", "x-nvidia-gpu-driver-rim-cert-chain"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2)
            ),
            max_leaves=4,
        ),
    )
)
def test_any_claims_are_judged(data: dict[str, Any]) -> None:
    unsigned = b64url_encode(b'{"alg":"ES384"}') + "." + b64url_encode(json.dumps(data).encode()) + ".AA"
    raw = json.dumps([["JWT", unsigned], {"GPU-0": unsigned}]).encode()
    sheets = parses(judge, raw)
    assert sheets is None or not accepted(*sheets)
