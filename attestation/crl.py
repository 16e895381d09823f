"""Certificate revocation lists (RFC 5280, section 5): parsed here, judged at a given time."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from . import der
from .certificates import Certificate, pem_blocks, read_extensions, signed_by, signs_crls
from .errors import MalformedEvidence

MAX_CRL = 1024 * 1024
_UNDERSTOOD = frozenset({"2.5.29.20", "2.5.29.35"})  # number, authority key identifier


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
        return signed_by(self.signed, self.algorithm, self.signature, issuer.spki)


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
    outer = der.only(raw, der.SEQUENCE).children()
    body, algorithm, signature = outer.take(der.SEQUENCE), outer.take(der.SEQUENCE), der.bits(outer.take())
    outer.close()
    inner = body.children()
    if der.integer(inner.take()) != 1 or inner.take(der.SEQUENCE).raw != algorithm.raw:
        raise MalformedEvidence("CRL is not of version 2, or names two signature algorithms")
    issuer = inner.take(der.SEQUENCE)
    this_update, next_update = der.instant(inner.take()), der.instant(inner.take())
    revoked, understood = _revoked(inner.optional(der.SEQUENCE))
    tagged = inner.optional(0xA0)
    extensions = read_extensions(der.only(tagged.content, der.SEQUENCE) if tagged else None)
    inner.close()
    number = extensions.get("2.5.29.20")
    critical = {name for name, item in extensions.items() if item.critical}
    return Crl(
        issuer=issuer.raw,
        this_update=this_update,
        next_update=next_update,
        revoked=revoked,
        number=der.integer(der.only(number.value)) if number else None,
        understood=understood and critical <= _UNDERSTOOD,
        signed=body.raw,
        algorithm=algorithm.raw,
        signature=signature,
    )


def _revoked(entries: der.Element | None) -> tuple[frozenset[int], bool]:
    """The serial numbers, and whether no entry has a critical extension."""
    serials: set[int] = set()
    understood = True
    for entry in entries.children() if entries else ():
        parts = entry.children()
        serials.add(der.integer(parts.take()))
        der.instant(parts.take())
        extensions = read_extensions(parts.optional(der.SEQUENCE))
        parts.close()
        understood = understood and not any(item.critical for item in extensions.values())
    return frozenset(serials), understood
