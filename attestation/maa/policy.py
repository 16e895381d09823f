"""What a policy may say of Azure Attestation tokens: the [maa] section."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ..dcap.policy import ACCEPTABLE
from ..dcap.status import TcbStatus
from ..errors import PolicyError
from ..section import Section

TEES = {"sevsnpvm", "tdxvm"}
SVNS = ("bootloader", "tee", "snpfw", "microcode", "guest")
LONGEST_SKEW = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class MaaPolicy:
    """The [maa] section: one instance of the service, and what its tokens must say.

    `keys`: RFC 7638 SHA-256 thumbprints of the instance's signing keys. A key set is not signed,
    so without them (None, `trust_collateral_keys = true`) the key is as good as whoever
    supplied the collateral. `measurements`, `policy_hashes`: None is the spelled-out "any".
    """

    issuer: str
    keys: frozenset[bytes] | None
    tees: frozenset[str]
    compliance: frozenset[str]
    measurements: frozenset[bytes] | None
    policy_hashes: frozenset[str] | None
    minimum_svn: Mapping[str, int]
    tcb_statuses: frozenset[str]
    max_clock_skew: int
    allow_debug: bool
    allow_migration: bool
    allow_no_secure_boot: bool
    allow_missing_nonce: bool

    @classmethod
    def parse(cls, section: Section) -> Self:
        """The section; PolicyError for what is missing, unknown or contradictory."""
        issuer = section.take("issuer", str, hint="the https address of the one instance you trust")
        if not issuer.startswith("https://") or issuer.endswith("/"):
            raise PolicyError(f"{section.name}.issuer is {issuer!r}, not https://... without a final slash")
        any_key = section.instead("trust_collateral_keys", "keys")
        any_measurement = section.instead("allow_any_measurement", "measurements")
        any_policy = section.instead("allow_any_policy", "policy_hashes")
        return cls(
            issuer=issuer,
            keys=None if any_key else section.digests("keys", 32),
            tees=section.choices("tees", TEES),
            compliance=section.texts("compliance", hint='for example ["azure-compliant-cvm"]'),
            measurements=None if any_measurement else section.digests("measurements", 48),
            policy_hashes=None if any_policy else section.texts("policy_hashes"),
            minimum_svn=section.table("minimum_svn", _svns, {}),
            tcb_statuses=section.choices("tcb_statuses", ACCEPTABLE, [TcbStatus.UP_TO_DATE.value]),
            max_clock_skew=section.integer("max_clock_skew", 0, LONGEST_SKEW, 0),
            allow_debug=section.flag("allow_debug"),
            allow_migration=section.flag("allow_migration"),
            allow_no_secure_boot=section.flag("allow_no_secure_boot"),
            allow_missing_nonce=section.flag("allow_missing_nonce"),
        )


def _svns(section: Section) -> Mapping[str, int]:
    return {name: section.integer(name, 0, 2**32 - 1) for name in SVNS if name in section}
