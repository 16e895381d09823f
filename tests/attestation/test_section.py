"""Policy tables: nothing missing, nothing mistyped, nothing unknown, and errors that say what to write."""

import tomllib

import pytest

from attestation import PolicyError
from attestation.section import Section


def section(text: str) -> Section:
    return Section("snp", tomllib.loads(text))


def test_a_missing_key_is_named() -> None:
    with pytest.raises(PolicyError, match=r"snp\.vmpl is missing"):
        section("").integer("vmpl", 0, 3)


def test_a_misspelt_key_gets_a_suggestion() -> None:
    table = section("allow_debgu = true")
    table.flag("allow_debug")
    with pytest.raises(PolicyError, match=r"snp\.allow_debgu is unknown; did you mean 'allow_debug'"):
        table.close()


@pytest.mark.parametrize("text", ["vmpl = '0'", "vmpl = true", "vmpl = 4", "vmpl = -1", "vmpl = 0.0"])
def test_wrong_types_and_ranges_are_refused(text: str) -> None:
    with pytest.raises(PolicyError, match=r"snp\.vmpl"):
        section(text).integer("vmpl", 0, 3)


def test_a_weakening_is_false_unless_spelled_out() -> None:
    assert section("").flag("allow_debug") is False
    assert section("allow_debug = true").flag("allow_debug") is True
    with pytest.raises(PolicyError):
        section("allow_debug = 1").flag("allow_debug")


def test_digests_have_their_size() -> None:
    assert section("m = ['0011']").digests("m", 2) == {b"\x00\x11"}
    for text in ("m = ['00']", "m = ['zz11']", "m = [11]", "m = '0011'"):
        with pytest.raises(PolicyError, match=r"snp\.m"):
            section(text).digests("m", 2)


def test_choices_are_closed_and_suggest() -> None:
    with pytest.raises(PolicyError, match="did you mean 'Genoa'"):
        section("products = ['Genao']").choices("products", {"Genoa", "Turin"})


def test_instants_need_an_offset() -> None:
    with pytest.raises(PolicyError, match="offset"):
        section("t = 2026-01-01T00:00:00").instant("t")
    assert section("t = 2026-01-01T00:00:00Z").instant("t").tzinfo is not None


def test_a_sub_table_is_closed() -> None:
    with pytest.raises(PolicyError, match=r"snp\.inner\.b is unknown"):
        section("[inner]\na = 1\nb = 2").table("inner", lambda inner: inner.integer("a", 0, 9))


def test_pins_are_digests_with_and_without_a_name() -> None:
    root = "ab" * 32
    plain, named = Section("s", {"models": [root, f"faq={root}", f"a=b={root}"]}).pins("models", 32)
    assert plain == {bytes.fromhex(root)}
    assert named == {("faq", bytes.fromhex(root)), ("a=b", bytes.fromhex(root))}
    for wrong in (f"={root}", "faq=", "faq=xy", f"faq={root}00"):
        with pytest.raises(PolicyError, match=r"s\.models"):
            Section("s", {"models": [wrong]}).pins("models", 32)
