"""From the report's VCEK or VLEK to a pinned ARK: finding the certificates and judging the path."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from .. import certificates
from ..certificates import Certificate
from ..collateral import Kind
from ..context import Context
from ..crl import Crl, load_crl
from ..errors import MalformedEvidence
from ..roots import Roots
from ..verdict import Sheet
from . import table
from .checks import SnpCheck as Check
from .endorsement import EndorsementKey, is_endorsement
from .flags import SigningKey
from .product import Product
from .report import SnpReport

MAX_ITEMS = 32
_ARKS = {line: f"{line.lower()}_ark" for line in Product}


@dataclass(frozen=True, slots=True)
class Supplied:
    """What came with the report or as collateral; trusted only as far as it is signed."""

    certificates: tuple[Certificate, ...]
    crls: tuple[Crl, ...]

    @classmethod
    def gather(cls, endorsements: Sequence[bytes], context: Context) -> Self:
        """Certificates and CRLs out of `endorsements` (DER, PEM, certificate tables) and collateral."""
        items = [*endorsements, *context.collateral.of(Kind.AMD_CERTIFICATE)]
        lists = [*context.collateral.of(Kind.AMD_CRL)]
        found: list[Certificate] = []
        for item in items:
            if item[:1] == b"\x30" or item.lstrip().startswith(b"-----BEGIN"):
                found.extend(certificates.load_all(item))
                continue
            entries = table.read_table(item)
            for guid, content in entries:
                found.extend(certificates.load_all(content) if guid in table.CERTIFICATES else ())
            lists.extend(content for guid, content in entries if guid == table.CRL)
        if len(found) > MAX_ITEMS or len(lists) > MAX_ITEMS:
            raise MalformedEvidence(f"more than {MAX_ITEMS} certificates or CRLs")
        return cls(tuple(dict.fromkeys(found)), tuple(load_crl(raw) for raw in lists))

    def endorsement(self, report: SnpReport, context: Context) -> EndorsementKey | None:
        """The VCEK or VLEK that fits the report best, the first among equals; None if there is none."""
        keys = [EndorsementKey.of(item) for item in self.certificates if is_endorsement(item)]

        def fits(key: EndorsementKey) -> tuple[bool, ...]:
            return (
                key.kind is report.signer_info.signing_key,
                key.chip_id in (None, report.chip_id),
                key.tcb == report.reported_tcb,
                key.certificate.valid_at(context.now),
            )

        return max(keys, key=fits, default=None)


@dataclass(frozen=True, slots=True)
class Path:
    """One path from an endorsement key up. `issuer` or `root` is None if it could not be found."""

    leaf: EndorsementKey
    product: Product | None
    issuer: Certificate | None
    root: Certificate | None
    supplied_roots: tuple[Certificate, ...]
    known: tuple[str, ...]

    @classmethod
    def build(cls, leaf: EndorsementKey, supplied: Supplied, roots: Roots) -> Self:
        """The path from `leaf` under the pinned line that it names.

        Where a single line is pinned, everything is judged under that one.
        """
        anchors = roots.der("amd")
        lines = {line for line, stem in _ARKS.items() if stem in anchors}
        product = leaf.product
        if product not in lines and len(lines) == 1:
            (product,) = lines
        others = [item for item in supplied.certificates if not is_endorsement(item)]
        root = anchors.get(_ARKS[product]) if product else None
        return cls(
            leaf=leaf,
            product=product,
            issuer=_issuer(leaf, _candidates(leaf, product, anchors, others)),
            root=certificates.anchor(root) if root else None,
            supplied_roots=tuple(item for item in others if _self_issued(item)),
            known=tuple(sorted(lines)),
        )

    def certificates(self) -> list[Certificate]:
        """The certificates that were found, leaf first."""
        return [item for item in (self.leaf.certificate, self.issuer, self.root) if item is not None]

    def check_root(self, sheet: Sheet) -> None:
        """ROOT: the line's ARK is pinned, and a supplied ARK of that name holds the same key."""
        expected = f"a pinned ARK; there are {', '.join(self.known) or 'none'}"
        if self.root is None:
            sheet.record(Check.ROOT, False, f"no ARK of {self.product or 'an unknown line'}", expected)
            return
        # The same authority may appear in a re-issued certificate: its name and key count.
        others = [c for c in self.supplied_roots if c.subject == self.root.subject]
        same = all(c.spki == self.root.spki for c in others)
        found = self.root.name if same else f"another key under the name {self.root.name}"
        sheet.record(Check.ROOT, same, found, expected)

    def check_chain(self, sheet: Sheet) -> None:
        """CHAIN: each certificate is signed by the next; the last of them is pinned."""
        broken: list[str] = []
        leaf, issuer, root = self.leaf.certificate, self.issuer, self.root
        if issuer is None or root is None:
            wanted = certificates.common_name(leaf.issuer) if issuer is None else "the ARK"
            sheet.record(
                Check.CHAIN, False, f"no certificate of {wanted!r}", "VCEK or VLEK, ASK or ASVK, ARK"
            )
            return
        if not leaf.issued_by(issuer):
            broken.append(f"{leaf.name} is not signed by {issuer.name}")
        if not issuer.issued_by(root):
            broken.append(f"{issuer.name} is not signed by {root.name}")
        found = "; ".join(broken) or f"{leaf.name} <- {issuer.name} <- {root.name}"
        sheet.record(Check.CHAIN, not broken, found, "each signed by the next, up to the pinned ARK")

    def check_validity(self, sheet: Sheet, context: Context) -> None:
        """VALIDITY: every certificate found is valid now."""
        expired = [c for c in self.certificates() if not c.valid_at(context.now)]
        shown = expired or [min(self.certificates(), key=lambda c: c.not_after)]
        found = "; ".join(f"{c.name} {c.validity}" for c in shown)
        sheet.record(Check.VALIDITY, not expired, found, f"all valid at {context.now.isoformat()}")

    def check_crl(self, sheet: Sheet, crls: Iterable[Crl], context: Context) -> None:
        """CRL: none of the ARK's lists revokes a certificate of the path; one of them is current."""
        root = self.root
        mine = [crl for crl in crls if root is not None and crl.issuer == root.subject]
        if root is None or not mine:
            sheet.unevaluable(Check.CRL, "no CRL of this product line was supplied", "the ARK's current CRL")
            return
        if not all(crl.issued_by(root) for crl in mine):
            sheet.record(Check.CRL, False, f"a CRL is not signed by {root.name}", "signed by the ARK")
            return
        revoked = frozenset[int]().union(*(crl.revoked for crl in mine))
        hit = [c.name for c in (self.issuer, root) if c is not None and c.serial in revoked]
        current = [crl for crl in mine if crl.valid_at(context.now)]
        expected = f"not revoked, by a CRL current at {context.now.isoformat()}"
        if hit:
            sheet.record(Check.CRL, False, f"revoked: {', '.join(hit)}", expected)
        elif not current:
            last = max(mine, key=lambda crl: crl.next_update)
            dates = f"{last.this_update:%Y-%m-%d} to {last.next_update:%Y-%m-%d}"
            sheet.unevaluable(Check.CRL, f"the CRL supplied runs from {dates}", expected)
        else:
            found = f"not revoked; {len(revoked)} others are, CRL number {current[0].number}"
            sheet.record(Check.CRL, True, found, expected)


def _candidates(
    leaf: EndorsementKey,
    product: Product | None,
    anchors: Mapping[str, bytes],
    supplied: Iterable[Certificate],
) -> Iterator[Certificate]:
    """What may have issued `leaf`: the line's pinned ASK and ASVK, likelier first, then the rest."""
    stems = ("asvk", "ask") if leaf.kind is SigningKey.VLEK else ("ask", "asvk")
    for stem in stems if product else ():
        pinned = anchors.get(f"{str(product).lower()}_{stem}")
        if pinned is not None:
            yield certificates.anchor(pinned)
    yield from (item for item in supplied if not _self_issued(item))


def _issuer(leaf: EndorsementKey, candidates: Iterable[Certificate]) -> Certificate | None:
    """The certificate that issued `leaf`; if none did, the first under the issuer's name."""
    namesake = None
    for item in candidates:
        if leaf.certificate.issued_by(item):
            return item
        if namesake is None and item.subject == leaf.certificate.issuer:
            namesake = item
    return namesake


def _self_issued(item: Certificate) -> bool:
    return item.subject == item.issuer
