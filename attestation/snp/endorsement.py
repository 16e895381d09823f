"""VCEK and VLEK: what AMD's certificate says of the key that signs reports."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from .. import algorithms, der
from ..certificates import Certificate, common_name
from ..errors import MalformedEvidence
from ..pkix import ObjectIdentifier
from ..usage import BASIC_CONSTRAINTS, KEY_USAGE
from . import oids
from .flags import SigningKey
from .product import Product, Tcb

_LINES = {"Bergamo": Product.GENOA, "Siena": Product.GENOA} | {str(line): line for line in Product}
_NAMES = {"SEV-VCEK": SigningKey.VCEK, "SEV-VLEK": SigningKey.VLEK}
_ISSUERS = {SigningKey.VCEK: "SEV-", SigningKey.VLEK: "SEV-VLEK-"}
_LEVELS = {"bl": oids.BL_SPL, "tee": oids.TEE_SPL, "snp": oids.SNP_SPL, "ucode": oids.UCODE_SPL}
_UNDERSTOOD = frozenset({BASIC_CONSTRAINTS, KEY_USAGE})
_OCTETS = {bytes((der.INTEGER, 1, value)): value for value in range(0x80)} | {
    bytes((der.INTEGER, 2, 0, value)): value for value in range(0x80, 0x100)
}
"""What INTEGERs from 0 to 255 are in DER, which has one encoding for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndorsementKey:
    """A VCEK or VLEK certificate (AMD 57230, section 3). Parsed, not verified.

    `problems` says what keeps it from the form that AMD gives it; a part that could not be read is
    None. `hw_id` is 64 bytes, 8 on Turin; a VLEK has `csp_id` instead.
    """

    certificate: Certificate
    kind: SigningKey
    product: Product | None
    tcb: Tcb | None
    hw_id: bytes | None
    csp_id: str | None
    key: ec.EllipticCurvePublicKey | None
    problems: tuple[str, ...]

    @classmethod
    def of(cls, certificate: Certificate) -> "EndorsementKey":
        """What `certificate` says; total: defects become `problems`."""
        return _read(certificate)

    @classmethod
    def _parse(cls, certificate: Certificate) -> Self:
        reader = _Reader(certificate)
        kind = _NAMES.get(_subject(certificate), SigningKey.NONE)
        product = reader.product()
        reader.expect(kind is not SigningKey.NONE, "subject is neither SEV-VCEK nor SEV-VLEK")
        if kind is not SigningKey.NONE and product is not None:
            issuer = f"{_ISSUERS[kind]}{product}"
            reader.expect(_name(certificate.issuer) == issuer, f"issuer is not {issuer}")
        turin = product is Product.TURIN
        reader.expect(reader.level(oids.STRUCT_VERSION) == int(turin), f"structVersion is not {int(turin)}")
        hw_id, csp_id = reader.hw_id(), reader.csp_id()
        if kind is SigningKey.VLEK:
            reader.expect(hw_id is None and bool(csp_id), "a VLEK has a cspID and no hwID")
        else:
            size = 8 if turin else 64
            fits = hw_id is not None and len(hw_id) == size and csp_id is None
            reader.expect(fits, f"a VCEK has a hwID of {size} bytes and no cspID")
        return cls(
            certificate=certificate,
            kind=kind,
            product=product,
            tcb=reader.tcb(turin),
            hw_id=hw_id,
            csp_id=csp_id,
            key=reader.key(),
            problems=tuple(reader.problems),
        )

    @property
    def chip_id(self) -> bytes | None:
        """CHIP_ID as a report of this key's chip carries it: hwID, zero-padded to 64 bytes."""
        return self.hw_id.ljust(64, b"\0") if self.hw_id else None


@lru_cache(maxsize=64)
def _read(certificate: Certificate) -> EndorsementKey:
    return EndorsementKey._parse(certificate)


def is_endorsement(certificate: Certificate) -> bool:
    """Whether the certificate presents itself as a VCEK or VLEK."""
    return oids.PRODUCT_NAME in certificate.extensions or _subject(certificate) in _NAMES


def _subject(certificate: Certificate) -> str:
    return _name(certificate.subject)


def _name(name: bytes) -> str:
    try:
        return common_name(name)
    except MalformedEvidence:
        return ""


class _Reader:
    """Reads one certificate's extensions and collects what is wrong with them."""

    def __init__(self, certificate: Certificate) -> None:
        self._certificate = certificate
        self._extensions = certificate.extensions
        self.problems: list[str] = []

    def expect(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)

    def level(self, oid: ObjectIdentifier) -> int | None:
        """The INTEGER in an extension, if it is one from 0 to 255."""
        extension = self._extensions.get(oid)
        return _OCTETS.get(extension.value) if extension else None

    def tcb(self, turin: bool) -> Tcb | None:
        levels = {name: self.level(oid) for name, oid in _LEVELS.items()}
        if turin or oids.FMC_SPL in self._extensions:
            levels["fmc"] = self.level(oids.FMC_SPL)
        reserved = [self.level(oid) for oid in oids.RESERVED_SPLS if oid in self._extensions]
        known = {name: level for name, level in levels.items() if level is not None}
        complete = len(known) == len(levels) and turin == ("fmc" in levels)
        self.expect(complete and not any(reserved), "SPL extensions are missing, misplaced or not levels")
        self.expect(None not in reserved, "a reserved SPL extension is not a level")
        return Tcb(**known) if complete else None

    def product(self) -> Product | None:
        name = self._string(oids.PRODUCT_NAME)
        product = _LINES.get(name.partition("-")[0]) if name is not None else None
        self.expect(product is not None, f"productName {name!r} is not of a known line")
        return product

    def hw_id(self) -> bytes | None:
        """The chip's identity: bare, or in an OCTET STRING."""
        extension = self._extensions.get(oids.HW_ID)
        if extension is None:
            return None
        value = extension.value
        if len(value) in (66, 10) and value[:2] == bytes((der.OCTET_STRING, len(value) - 2)):
            return value[2:]
        return value

    def csp_id(self) -> str | None:
        if oids.CSP_ID not in self._extensions:
            return None
        name = self._string(oids.CSP_ID)
        self.expect(name is not None, "cspID is not an IA5String")
        return name

    def key(self) -> ec.EllipticCurvePublicKey | None:
        """The P-384 key, and the rest of the form: algorithm and critical extensions."""
        _, digest = algorithms.PSS.get(self._certificate.algorithm, (None, None))
        self.expect(isinstance(digest, hashes.SHA384), "signature is not RSASSA-PSS with SHA-384")
        critical = {oid for oid, item in self._extensions.items() if item.critical}
        self.expect(critical <= _UNDERSTOOD, "a critical extension is not known")
        try:
            key = self._certificate.key
        except MalformedEvidence:
            key = None
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1):
            return key
        self.expect(False, "key is not on P-384")
        return None

    def _string(self, oid: ObjectIdentifier) -> str | None:
        try:
            return der.text(der.only(self._extensions[oid].value, der.IA5_STRING))
        except (KeyError, MalformedEvidence):
            return None
