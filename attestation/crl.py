"""Certificate revocation lists (RFC 5280, section 5): parsed here, judged at a given time."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from . import der, pkix
from .certificates import Certificate, pem_blocks, read_extensions, signed_by, signs_crls
from .errors import MalformedEvidence
from .pkix import ObjectIdentifier

MAX_CRL = 1024 * 1024
MAX_REMEMBERED = 16 * 1024
_VERSION_2 = 1
_NUMBER, _AUTHORITY_KEY = ObjectIdentifier("2.5.29.20"), ObjectIdentifier("2.5.29.35")
_UNDERSTOOD = frozenset({_NUMBER, _AUTHORITY_KEY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Crl:
    """A complete, direct CRL. Parsed, not verified. `number` is None if it carries none."""

    issuer: bytes = field(repr=False)
    this_update: datetime
    next_update: datetime
    revoked: frozenset[int]
    number: int | None
    understood: bool
    signed: bytes = field(repr=False)
    algorithm: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def valid_at(self, now: datetime) -> bool:
        """Whether `now` lies between thisUpdate and nextUpdate."""
        return self.this_update <= now <= self.next_update

    def issued_by(self, issuer: Certificate) -> bool:
        """Whether `issuer` is named as issuer, may sign CRLs, and signed this one."""
        if self.issuer != issuer.subject or not signs_crls(issuer) or not self.understood:
            return False
        # What is remembered is kept by its bytes: of long lists, which anybody may send, it would be a lot.
        holds = signed_by if len(self.signed) <= MAX_REMEMBERED else signed_by.__wrapped__
        return holds(self.signed, self.algorithm, self.signature, issuer)


@lru_cache(maxsize=32)
def load_crl(raw: bytes) -> Crl:
    """The CRL in `raw`, DER or PEM; MalformedEvidence if it is not exactly one, version 2, dated."""
    if len(raw) > MAX_CRL:
        raise MalformedEvidence(f"CRL of {len(raw)} bytes exceeds {MAX_CRL}")
    if raw[:1] != b"\x30":
        blocks = pem_blocks(raw, b"X509 CRL")
        if len(blocks) != 1:
            raise MalformedEvidence(f"{len(blocks)} CRLs where one belongs")
        raw = blocks[0]
    outer = pkix.decode(pkix.Signed, raw)
    signed, algorithm = pkix.encoded(outer.body), pkix.encoded(outer.algorithm)
    body = pkix.decode(pkix.TbsCertList, signed)
    if body.version != _VERSION_2 or pkix.encoded(body.algorithm) != algorithm:
        raise MalformedEvidence("CRL is not of version 2, or names two signature algorithms")
    entries = body.revoked or ()
    extensions = read_extensions(body.extensions)
    number = extensions.get(_NUMBER)
    critical = {name for name, item in extensions.items() if item.critical}
    return Crl(
        issuer=pkix.encoded(body.issuer),
        this_update=pkix.instant(body.this_update),
        next_update=pkix.instant(body.next_update),
        revoked=frozenset(entry.serial for entry in entries),
        number=der.integer(der.only(number.value)) if number else None,
        understood=_understood(entries) and critical <= _UNDERSTOOD,
        signed=signed,
        algorithm=algorithm,
        signature=pkix.octets(outer.signature),
    )


def _understood(entries: Iterable[pkix.Revoked]) -> bool:
    """Whether no entry has a critical extension."""
    return not any(item.critical for entry in entries for item in entry.extensions or ())
