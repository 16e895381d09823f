"""The claims of an EAR token, read strictly; signing and verifying are in `attestation.ear`.

draft-ietf-rats-ear-04, 3 and 3.1. Unknown claims are ignored, as the draft says; those that are read
must have their type, and no status may claim more trust than what it sums up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from .encoding import b64url_decode
from .errors import MalformedEvidence
from .jose import Token
from .trustworthiness import Tier, worst

PROFILE = "tag:ietf.org,2026:rats/ear#04"
MEDIA_TYPE = "eat+jwt"
VERDICT_CLAIM = "cloister.verdict"
CHECKS_CLAIM = "cloister.checks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submodule:
    """One appraised subject. `checks` are rows of check, outcome and required, as the verifier made them."""

    status: Tier
    vector: Mapping[str, int]
    policies: tuple[str, ...] = ()
    checks: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    claims: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ear:
    """An attestation result as it was signed; from `parse_ear` it is parsed, not verified."""

    issuer: str | None
    developer: str
    build: str
    issued_at: datetime
    expires_at: datetime
    nonce: bytes | None
    status: Tier
    submods: Mapping[str, Submodule]
    verdict: str | None
    simulated: bool

    @property
    def affirming(self) -> bool:
        """True if the whole and every subject are affirming, and nothing is simulated."""
        tiers = {self.status, *(submodule.status for submodule in self.submods.values())}
        return tiers == {Tier.AFFIRMING} and not self.simulated


def read_claims(token: Token) -> Ear:
    """The result that `token` holds, unverified; MalformedEvidence for anything but an EAR."""
    if token.header.get("typ") != MEDIA_TYPE or token.claims.get("eat_profile") != PROFILE:
        raise MalformedEvidence(f"not an EAR: typ is not {MEDIA_TYPE} or eat_profile is not {PROFILE}")
    claims = token.claims
    verifier = _table(claims, "ear_verifier_id")
    table = _table(claims, "submods")
    submods = {label: _read_submodule(label, table) for label in table}
    if not submods:
        raise MalformedEvidence("an EAR has at least one submodule")
    lowest = worst(submodule.status for submodule in submods.values())
    status = _tier(claims, lowest) if "ear_status" in claims else lowest
    ours = claims.get(VERDICT_CLAIM)
    said: Mapping[str, Any] = ours if isinstance(ours, dict) else {}
    return Ear(
        issuer=_text(claims, "iss") if "iss" in claims else None,
        developer=_text(verifier, "developer"),
        build=_text(verifier, "build"),
        issued_at=_instant(claims, "iat"),
        expires_at=_instant(claims, "exp"),
        nonce=b64url_decode(_text(claims, "eat_nonce")) if "eat_nonce" in claims else None,
        status=status,
        submods=MappingProxyType(submods),
        verdict=_text(said, "verdict") if "verdict" in said else None,
        simulated=said.get("simulated", False) is not False,
    )


def _read_submodule(label: str, table: Mapping[str, Any]) -> Submodule:
    claims = _table(table, label)
    vector = _table(claims, "ear_trustworthiness_vector")
    if not vector or not all(type(value) is int and -128 <= value <= 127 for value in vector.values()):
        raise MalformedEvidence(f"submodule {label!r}: the vector is empty or not of integers -128 to 127")
    policies = claims.get("ear_appraisal_policy_ids", [])
    said = claims.get("ear_verifier_claims")
    checks = said.get(CHECKS_CLAIM, []) if isinstance(said, dict) else []
    attester = claims.get("ear_attester_claims", {})
    if not isinstance(policies, list) or not all(isinstance(item, str) for item in policies):
        raise MalformedEvidence(f"submodule {label!r}: ear_appraisal_policy_ids is not a list of names")
    if not isinstance(attester, dict) or not isinstance(checks, list):
        raise MalformedEvidence(f"submodule {label!r}: its claims are not a table, or its checks no list")
    if not all(isinstance(row, dict) for row in checks):
        raise MalformedEvidence(f"submodule {label!r}: a check is not a table")
    # AR4SI: a claim of value 0 and an absent one are the same, so it lowers no status here.
    stated = [Tier.of(value) for value in vector.values() if Tier.of(value) is not Tier.NONE]
    return Submodule(
        status=_tier(claims, worst(stated)),
        vector=MappingProxyType(vector),
        policies=tuple(policies),
        checks=tuple(checks),
        claims=MappingProxyType(attester),
    )


def _tier(claims: Mapping[str, Any], lowest: Tier) -> Tier:
    """`ear_status`, which may not claim more trust than `lowest`, the worst of what it sums up."""
    try:
        tier = Tier(_text(claims, "ear_status"))
    except ValueError:
        raise MalformedEvidence("ear_status is not one of the four tiers") from None
    if worst([tier, lowest]) is not tier:
        raise MalformedEvidence(f"ear_status {tier} claims more trust than {lowest}, which it sums up")
    return tier


def _table(claims: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = claims.get(name)
    if not isinstance(value, dict):
        raise MalformedEvidence(f"{name!r} is missing or not a table")
    return value


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str):
        raise MalformedEvidence(f"{name!r} is missing or not a string")
    return value


def _instant(claims: Mapping[str, Any], name: str) -> datetime:
    value = claims.get(name)
    if type(value) is not int:
        raise MalformedEvidence(f"{name!r} is missing or not an integer")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError):
        raise MalformedEvidence(f"{name!r} is {value}, which is no time") from None
