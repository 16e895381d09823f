"""Paths from a certificate to a pinned anchor (RFC 5280, section 6, as far as TEEs use it).

Two answers, kept apart: whether there is a path (`find`), and whether it may be used (`faults`,
`expired`). Nothing is fetched; certificates come from evidence, collateral and the pinned roots.
"""

from collections.abc import Iterable
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import rsa

from . import certificates, der
from .certificates import Certificate
from .pkix import ObjectIdentifier
from .usage import BASIC_CONSTRAINTS, KEY_USAGE, SIGNS_DATA, constraints, key_usage

EXTENDED_KEY_USAGE = ObjectIdentifier("2.5.29.37")
ALTERNATIVE_NAME = ObjectIdentifier("2.5.29.17")
MAX_CANDIDATES = 16
MINIMUM_RSA = 2048
Path = tuple[Certificate, ...]
_UNDERSTOOD = {BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE, ALTERNATIVE_NAME}


def anchors(pinned: Iterable[bytes]) -> Path:
    """Pinned certificates (DER) in the form that paths are made of."""
    return tuple(certificates.anchor(item) for item in pinned)


def find(leaf: Certificate, others: Iterable[Certificate], pinned: Path) -> Path | None:
    """A path from `leaf` over `others` to a root in `pinned`, every signature verified; or None.

    Pinned certificates that are not self-issued count as `others`. At most 16 others are looked
    at, each once, so time is bounded.
    """
    roots = [item for item in pinned if item.subject == item.issuer]
    offered = list(dict.fromkeys(item.raw for item in others))[:MAX_CANDIDATES]
    pool = [certificates.from_der(raw) for raw in offered] + list(pinned)
    pool = [item for item in pool if item not in roots]
    reached: list[Path] = [(leaf,)]
    for path in reached:  # breadth first; grows while it is walked
        for root in roots:
            if path[-1].raw == root.raw:
                return path
            if _issued(path[-1], root):
                return (*path, root)
        for candidate in [item for item in pool if _issued(path[-1], item)]:
            pool.remove(candidate)
            reached.append((*path, candidate))
    return None


def faults(path: Path) -> list[str]:
    """What keeps `path` from being used, other than dates: path lengths and unknown critical extensions."""
    found = [f"{item.name}: unknown critical extension" for item in path[:-1] if not _understood(item)]
    for depth, item in enumerate(path[1:]):
        limit = constraints(item.extensions).path_length
        if limit is not None and depth > limit:
            found.append(f"{item.name}: path longer than it allows")
    return found


def expired(path: Path, at: datetime) -> list[str]:
    """The names of the certificates that are not valid at `at`."""
    return [item.name for item in path if not item.valid_at(at)]


def signs_data(certificate: Certificate) -> bool:
    """Whether the key usage says digitalSignature."""
    usage = key_usage(certificate.extensions)
    return usage is not None and usage & SIGNS_DATA != 0


def extended_usages(certificate: Certificate) -> frozenset[str]:
    """The object identifiers in the extended key usage; empty without one."""
    usages = certificate.extensions.get(EXTENDED_KEY_USAGE)
    if usages is None:
        return frozenset()
    return frozenset(der.oid(item) for item in der.only(usages.value, der.SEQUENCE).children())


def _issued(certificate: Certificate, issuer: Certificate) -> bool:
    if not certificate.issued_by(issuer):
        return False
    key = issuer.key
    return not isinstance(key, rsa.RSAPublicKey) or key.key_size >= MINIMUM_RSA


def _understood(certificate: Certificate) -> bool:
    return all(oid in _UNDERSTOOD for oid, item in certificate.extensions.items() if item.critical)
