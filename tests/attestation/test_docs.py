"""The documents that are made from the code are current, and the vocabulary of checks is sound."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.checks import CheckId
from attestation.checks_doc import markdown
from attestation.ear_claims import PROFILE
from attestation.policy import SECTIONS
from attestation.policy_doc import renewed
from attestation.policy_guide import GUIDES, TOP
from attestation.trustworthiness import AUTHENTICITY, FEEDS, SIGNATURES, TrustClaim
from attestation.vocabulary import enumerations

DOCS = Path(__file__).parents[2] / "docs"
CHECKS = [check for enumeration in enumerations() for check in enumeration]


def test_checks_md_is_current() -> None:
    text = (DOCS / "checks.md").read_text("utf-8")
    assert text == markdown(), "run: python -m attestation.checks_doc > docs/checks.md"


def test_policy_md_is_current() -> None:
    text = (DOCS / "policy.md").read_text("utf-8")
    assert text == renewed(text), "run: python -m attestation.policy_doc docs/policy.md"


def test_policy_md_names_every_section_and_key() -> None:
    text = (DOCS / "policy.md").read_text("utf-8")
    for name in SECTIONS:
        assert f"`[{name}]`" in text
    for guide in (TOP, *GUIDES.values()):
        for key in guide.keys:
            assert f"| `{key.name}` |" in text
    with pytest.raises(ValueError, match="no line"):
        renewed("no mark")


def test_ear_md_names_the_profile_and_every_claim() -> None:
    text = (DOCS / "ear.md").read_text("utf-8")
    assert PROFILE in text
    for claim in TrustClaim:
        assert f"`{claim}`" in text


def test_every_enumeration_of_checks_is_included() -> None:
    def below(kind: type[CheckId]) -> Iterator[type[CheckId]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    ours = {kind for kind in below(CheckId) if kind.__module__.startswith("attestation.")}
    assert ours == set(enumerations())
    assert len(enumerations()) >= 14


def test_check_names_are_distinct_and_lower_case() -> None:
    names = [str(check) for check in CHECKS]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*", name), name


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_every_check_says_where_it_is_from_what_fails_it_and_what_to_do(check: CheckId) -> None:
    for document in re.findall(r"docs/\S+\.md", check.clause):
        assert (DOCS.parent / document).is_file()
    assert "DESIGN" not in check.clause  # no document of ours has that name
    for text in (check.clause, check.fails, check.remedy):
        assert text and text == text.strip() and not text.endswith(".")


def test_every_check_feeds_a_claim_and_nothing_else_does() -> None:
    names = {str(check) for check in CHECKS}
    assert names == FEEDS.keys()
    assert set(FEEDS.values()) == {AUTHENTICITY, *TrustClaim} - {TrustClaim.RUNTIME_OPAQUE}
    assert names >= SIGNATURES
