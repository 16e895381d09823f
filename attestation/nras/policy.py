"""What a policy may say of NRAS responses: the [nras] section."""

from dataclasses import dataclass
from typing import Self

from ..section import Section

LONGEST_SKEW = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class NrasPolicy:
    """The [nras] section. None in a list is the spelled-out "any".

    `ueids` are the devices that a response may be about, by the serial number of the leaf
    certificate in decimal; None takes any. `key_issuers`: SHA-256 of the SubjectPublicKeyInfo of the
    authorities whose certificates the service's keys must carry. Signing keys live two days and a
    key set is not signed, so without them (None, `trust_collateral_keys = true`) a key is as good as
    whoever supplied the collateral. NVIDIA publishes no root for this service that could be pinned here.
    """

    count: int
    key_issuers: frozenset[bytes] | None
    models: frozenset[str]
    ueids: frozenset[str] | None
    drivers: frozenset[str] | None
    vbios: frozenset[str] | None
    max_clock_skew: int
    allow_warnings: bool
    allow_missing_nonce: bool

    @classmethod
    def parse(cls, section: Section) -> Self:
        """The section; PolicyError for what is missing, unknown or contradictory."""
        any_key = section.instead("trust_collateral_keys", "key_issuers")
        any_driver = section.instead("allow_any_driver", "drivers")
        any_vbios = section.instead("allow_any_vbios", "vbios")
        return cls(
            count=section.integer("count", 1, 64),
            key_issuers=None if any_key else section.digests("key_issuers", 32),
            models=section.texts("models", hint='for example ["GH100"]'),
            ueids=section.texts("ueids") if "ueids" in section else None,
            drivers=None if any_driver else section.texts("drivers"),
            vbios=None if any_vbios else section.texts("vbios"),
            max_clock_skew=section.integer("max_clock_skew", 0, LONGEST_SKEW, 0),
            allow_warnings=section.flag("allow_warnings"),
            allow_missing_nonce=section.flag("allow_missing_nonce"),
        )
