"""Consents as bytes: the strict parser, whose signatures hold, and that any change voids all of them."""

import json
from dataclasses import replace

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from client.consenting import describe, manifest_from_terms
from client.errors import TermsError
from sealing import cose
from sealing.consent import Consent, Loaded, Manifest, OutputRules, canonical_schema
from sealing.errors import ConsentRefused, MalformedDocument
from tests.consent.agreed import KEYS, MANIFEST, NOW, signed

SCHEMA = canonical_schema({"type": "object", "properties": {"a": {"multipleOf": 0.5}}})


def test_every_party_signs_and_the_consent_holds() -> None:
    consent = signed()
    assert set(consent.standing().values()) == {"signed"}
    assert consent.check(NOW) == MANIFEST
    assert Consent.from_bytes(consent.to_bytes()) == consent


def test_a_missing_party_is_named() -> None:
    with pytest.raises(ConsentRefused, match=r"\(north: missing\)"):
        signed(MANIFEST, "lab", "south").check(NOW)


def test_it_ends_at_its_expiry() -> None:
    assert signed().check(MANIFEST.expires - 1)
    with pytest.raises(ConsentRefused, match="expired"):
        signed().check(MANIFEST.expires)


CHANGES = {
    "title": replace(MANIFEST, title="three partiez"),
    "base": replace(MANIFEST, base=replace(MANIFEST.base, root=b"\x0e" * 32)),
    "no adapter": replace(MANIFEST, adapters=()),
    "one reader more": replace(
        MANIFEST, data=(Loaded(name="letters", root=b"\x0c" * 32, readers=("north", "south")),)
    ),
    "code": replace(MANIFEST, measurement=b"\x0e" * 48),
    "one token more": replace(MANIFEST, output=OutputRules(max_tokens=17)),
    "logprobs": replace(MANIFEST, output=OutputRules(max_tokens=16, logprobs=True)),
    "a party less": replace(MANIFEST, parties=MANIFEST.parties[:2]),
    "a second longer": replace(MANIFEST, expires=MANIFEST.expires + 1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_any_change_voids_every_signature(name: str) -> None:
    changed = replace(signed(), manifest=CHANGES[name])
    assert set(changed.standing().values()) == {"signed another consent"}
    with pytest.raises(ConsentRefused, match="not every party"):
        changed.check(NOW)
    # Nor do the old signatures over the new bytes.
    forged = tuple(replace(each, payload=CHANGES[name].to_bytes()) for each in signed().signatures)
    assert set(replace(changed, signatures=forged).standing().values()) == {"the signature does not verify"}


def test_a_stranger_cannot_sign_nor_stand_in() -> None:
    stranger = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
    with pytest.raises(ConsentRefused, match="none of the parties"):
        signed().signed_by(stranger)
    other = cose.Sign1.from_bytes(cose.sign(MANIFEST.to_bytes(), "text/x", KEYS["lab"]), limit=1 << 20)
    mine = [each for each in signed().signatures if each.key_id != other.key_id]
    consent = Consent(
        manifest=MANIFEST, signatures=tuple(sorted((*mine, other), key=lambda each: each.key_id))
    )
    assert "signed as 'text/x'" in consent.standing()["lab"]


def test_signing_twice_keeps_one_signature() -> None:
    again = signed().signed_by(KEYS["lab"])
    assert len(again.signatures) == 3
    assert again.check(NOW)


@given(st.data())
def test_a_flipped_byte_is_malformed_or_voids(data: st.DataObject) -> None:
    raw = bytearray(signed().to_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((MalformedDocument, ConsentRefused)):
        Consent.from_bytes(bytes(raw)).check(NOW)


@given(st.binary(max_size=100))
def test_nothing_but_the_named_error_escapes(raw: bytes) -> None:
    for parse in (Consent.from_bytes, Manifest.from_bytes):
        with pytest.raises(MalformedDocument):
            parse(raw)


@pytest.mark.parametrize(
    "change",
    [
        {"parties": []},
        {"parties": [MANIFEST.parties[0].to_json()] * 2},
        {"data": [{"name": "letters", "root": "0c" * 32, "readers": ["nobody"]}]},
        {"adapters": [{"name": "faq", "root": "0b" * 32}]},
        {"measurement": "0d" * 32},
        {"output": {"max_tokens": 0, "logprobs": False}},
        {"output": {"max_tokens": 1, "logprobs": False, "schema": '{"b": 1}'}},
        {"output": {"max_tokens": 1, "logprobs": False, "schema": "[]"}},
        {"expires": 2**40},
        {"more": 1},
    ],
)
def test_a_manifest_that_says_something_else_is_malformed(change: dict[str, object]) -> None:
    table = json.loads(MANIFEST.to_bytes()) | change
    with pytest.raises(MalformedDocument):
        Manifest.from_bytes(rfc8785.dumps(table))


def test_what_parses_reencodes_identically() -> None:
    rich = replace(MANIFEST, output=OutputRules(max_tokens=1, logprobs=True, schema=SCHEMA), data=())
    for manifest in (MANIFEST, rich):
        assert Manifest.from_bytes(manifest.to_bytes()) == manifest
        assert Manifest.from_bytes(manifest.to_bytes()).to_bytes() == manifest.to_bytes()


TERMS = """
version = 1
title = "three parties"
expires = 2027-01-15T08:01:40Z
measurement = "{code}"
[base]
name = "faq"
root = "{base}"
[[adapters]]
name = "sailor"
root = "{adapter}"
[[data]]
name = "letters"
root = "{data}"
readers = ["north"]
[output]
max_tokens = 16
[[parties]]
name = "lab"
role = "a role"
key = "lab"
[[parties]]
name = "north"
role = "a role"
key = "north"
[[parties]]
name = "south"
role = "a role"
key = "south"
""".format(code="0d" * 48, base="0a" * 32, adapter="0b" * 32, data="0c" * 32)


def read(name: str) -> cose.Signer:
    return cose.Signer.of(KEYS[name])


def test_terms_make_the_manifest_that_they_describe() -> None:
    assert manifest_from_terms(TERMS, read) == MANIFEST
    shown = dict(describe(MANIFEST))
    assert shown["output"] == "at most 16 tokens; log-probabilities refused"
    assert shown["documents"].endswith("quoted to north")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "three parties"', "", "title is missing"),
        ("max_tokens = 16", "max_token = 16", "output.max_tokens is missing"),
        ("[output]", "[output]\nlogprobs = true", "output.logprobs is unknown"),
        ('readers = ["north"]', 'readers = ["nobody"]', "a reader is no party"),
        ("2027-01-15T08:01:40Z", "2027-01-15T08:01:40", "no offset"),
        ("[[data]]", "[data]", "not list"),
        ('key = "south"', 'key = "north"', "a name and key of its own"),
    ],
)
def test_terms_that_are_wrong_are_refused_by_name(old: str, new: str, said: str) -> None:
    assert old in TERMS
    with pytest.raises(TermsError, match=said):
        manifest_from_terms(TERMS.replace(old, new, 1), read)
