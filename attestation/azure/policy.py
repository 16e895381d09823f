"""What a policy may say of Azure: the [azure_vtpm] and [azure_aci] sections."""

from dataclasses import dataclass
from typing import Self

from ..errors import PolicyError
from ..section import MISSING, Section
from ..tpm.policy import SIZES, PcrRules
from .did import DidX509


@dataclass(frozen=True, slots=True, kw_only=True)
class VtpmPolicy:
    """The [azure_vtpm] section, for azure-snp-vtpm and azure-tdx-vtpm; the hardware has its own.

    `banks`: register banks that must be quoted, empty only with `allow_missing_quote`.
    """

    banks: frozenset[str]
    pcrs: PcrRules
    allow_missing_quote: bool
    allow_missing_nonce: bool
    allow_no_secure_boot: bool

    @classmethod
    def parse(cls, section: Section) -> Self:
        """The section; PolicyError for what is missing, unknown or contradictory."""
        unquoted = section.flag("allow_missing_quote")
        banks = section.choices("banks", set(SIZES), [] if unquoted else MISSING)
        if not unquoted and not banks:
            raise PolicyError(f"{section.name}.banks is empty; name one, or allow_missing_quote = true")
        return cls(
            banks=banks,
            pcrs=PcrRules.parse(section),
            allow_missing_quote=unquoted,
            allow_missing_nonce=section.flag("allow_missing_nonce"),
            allow_no_secure_boot=section.flag("allow_no_secure_boot"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AciPolicy:
    """The [azure_aci] section; the hardware has its own.

    `issuers` are did:x509 identifiers, each of which pins the authority by its fingerprint.
    `security_policies`: SHA-256 digests, or None, the spelled-out "any".
    """

    issuers: frozenset[str]
    feeds: frozenset[str]
    minimum_svn: int
    security_policies: frozenset[bytes] | None

    @classmethod
    def parse(cls, section: Section) -> Self:
        """The section; PolicyError for what is missing, unknown or contradictory."""
        issuers = section.texts("issuers", hint="the did:x509 of the endorsements you trust")
        for issuer in issuers:
            if DidX509.parse(issuer) is None:
                raise PolicyError(f"{section.name}.issuers: {issuer!r} is no did:x509:0:sha256 with eku only")
        allow_any = section.flag("allow_any_security_policy")
        if allow_any == ("security_policies" in section):
            raise PolicyError(
                f"{section.name}: write security_policies (SHA-256), or only if none is wanted"
                " allow_any_security_policy = true"
            )
        return cls(
            issuers=issuers,
            feeds=section.texts("feeds", hint='for example ["ContainerPlat-AMD-UVM"]'),
            minimum_svn=section.integer("minimum_svn", 0, 2**32 - 1),
            security_policies=None if allow_any else section.digests("security_policies", 32),
        )
