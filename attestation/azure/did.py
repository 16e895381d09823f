"""Issuers named by certificate (did:x509 method 0.1): an authority's fingerprint and usages of the signer."""

from dataclasses import dataclass
from typing import Self

from ..encoding import b64url_decode
from ..errors import MalformedEvidence

_PREFIX = "did:x509:0:sha256:"
MAX_DID = 512


@dataclass(frozen=True, slots=True)
class DidX509:
    """A did:x509 with SHA-256 fingerprint and only `eku` policies; `usages` are object identifiers."""

    fingerprint: bytes
    usages: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The identifier in `text`; None if it is of another form, or has policies not judged here."""
        if len(text) > MAX_DID or not text.startswith(_PREFIX) or not text.isascii():
            return None
        first, *policies = text.removeprefix(_PREFIX).split("::")
        if not policies or not all(policy.startswith("eku:") for policy in policies):
            return None
        try:
            fingerprint = b64url_decode(first)
        except MalformedEvidence:
            return None
        usages = tuple(policy.removeprefix("eku:") for policy in policies)
        return cls(fingerprint, usages) if len(fingerprint) == 32 else None
