"""Makes SEV-SNP evidence of its own: a chain in AMD's form, reports signed under it, CRLs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from attestation import Roots
from attestation.snp import (
    Cpuid,
    FirmwareVersion,
    GuestFlag,
    GuestPolicy,
    PlatformInfo,
    SignerInfo,
    SigningKey,
    SnpReport,
    Tcb,
    oids,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
GENOA_TCB = Tcb(bl=10, tee=0, snp=23, ucode=84)
TURIN_TCB = Tcb(fmc=1, bl=1, tee=1, snp=4, ucode=81)
CHIP = bytes(range(64))
PSS = padding.PSS(padding.MGF1(hashes.SHA384()), padding.PSS.DIGEST_LENGTH)

REPORT = SnpReport(
    version=5,
    guest_svn=2,
    policy=GuestPolicy(1, 55, GuestFlag.RESERVED_ONE | GuestFlag.SINGLE_SOCKET),
    family_id=bytes(16),
    image_id=bytes(16),
    vmpl=0,
    signature_algo=1,
    current_tcb=GENOA_TCB,
    platform_info=PlatformInfo.ECC | PlatformInfo.ALIAS_CHECK_COMPLETE,
    signer_info=SignerInfo(signing_key=SigningKey.VCEK),
    report_data=b"\x11" * 64,
    measurement=b"\x22" * 48,
    host_data=bytes(32),
    id_key_digest=bytes(48),
    author_key_digest=bytes(48),
    report_id=b"\x33" * 32,
    report_id_ma=b"\xff" * 32,
    reported_tcb=GENOA_TCB,
    cpuid=Cpuid(0x19, 0x11, 1),
    chip_id=CHIP,
    committed_tcb=GENOA_TCB,
    current_version=FirmwareVersion(1, 55, 40),
    committed_version=FirmwareVersion(1, 55, 40),
    launch_tcb=GENOA_TCB,
    launch_mit_vector=3,
    current_mit_vector=3,
    signature_r=0,
    signature_s=0,
)

STRICT: dict[str, Any] = {
    "products": ["Genoa"],
    "measurements": ["22" * 48],
    "report_data": ["11" * 64],
    "minimum_tcb": {"Genoa": {"bl": 10, "tee": 0, "snp": 23, "ucode": 84}},
}
"""A policy without a single weakening, for what the makers make."""


def der_int(value: int) -> bytes:
    return b"\x02\x01" + bytes((value,)) if value < 0x80 else b"\x02\x02\x00" + bytes((value,))


def der_ia5(text: str) -> bytes:
    return b"\x16" + bytes((len(text),)) + text.encode()


def extensions(product: str, tcb: Tcb, **changes: bytes | None) -> dict[bytes, bytes]:
    """AMD's extensions for a VCEK; `changes` replaces or (None) removes by constant name."""
    turin = tcb.fmc is not None
    found: dict[str, bytes | None] = {
        "STRUCT_VERSION": der_int(int(turin)),
        "PRODUCT_NAME": der_ia5(product),
        "BL_SPL": der_int(tcb.bl),
        "TEE_SPL": der_int(tcb.tee),
        "SNP_SPL": der_int(tcb.snp),
        "UCODE_SPL": der_int(tcb.ucode),
        "FMC_SPL": der_int(tcb.fmc) if tcb.fmc is not None else None,
        **{f"SPL_{n}": der_int(0) for n in ((5, 6, 7) if turin else (4, 5, 6, 7))},
        "HW_ID": CHIP[:8] if turin else CHIP,
        **changes,
    }
    return {getattr(oids, name): value for name, value in found.items() if value is not None}


def named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def issue(
    name: str,
    issuer: Issued | None,
    *,
    key: Any = None,
    ca: bool = True,
    serial: int = 7,
    valid: tuple[datetime, datetime] = (NOW - timedelta(days=30), NOW + timedelta(days=3650)),
    amd: Mapping[x509.ObjectIdentifier, bytes] | None = None,
    issuer_name: str | None = None,
    pss: bool = True,
) -> Issued:
    """A certificate for `name` under `issuer`, or under itself."""
    key = key or rsa.generate_private_key(65537, 2048)
    by = issuer.certificate.subject if issuer else named(name)
    builder = x509.CertificateBuilder(named(issuer_name) if issuer_name else by, named(name))
    builder = builder.public_key(key.public_key()).serial_number(serial)
    builder = builder.not_valid_before(valid[0]).not_valid_after(valid[1])
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    for oid, value in (amd or {}).items():
        extension = x509.UnrecognizedExtension(oid, value)
        builder = builder.add_extension(extension, critical=False)
    by_key = issuer.key if issuer else key
    signed = builder.sign(by_key, hashes.SHA384(), rsa_padding=PSS if pss else None)
    return Issued(certificate=signed, key=key)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A product line of our own: ARK, ASK, ASVK under AMD's names."""

    product: str
    ark: Issued
    ask: Issued
    asvk: Issued
    chip_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP384R1())
    )

    def roots(self) -> Roots:
        stem = self.product.lower()
        amd = {f"{stem}_{k}": getattr(self, k).certificate for k in ("ark", "ask", "asvk")}
        return Roots(names=frozenset({"test"}), anchors={"amd": amd}, custom=True)

    def vcek(self, *, tcb: Tcb = GENOA_TCB, product: str = "", **changes: Any) -> Issued:
        """A VCEK; `amd` may replace extensions by their constants' names, the rest goes to `issue`."""
        amd = extensions(product or self.product, tcb, **changes.pop("amd", {}))
        by = changes.pop("by", self.ask)
        changes = {"key": self.chip_key, **changes}
        return issue(changes.pop("name", "SEV-VCEK"), by, ca=False, amd=amd, **changes)

    def vlek(self, csp_id: str = "CN=example", **changes: Any) -> Issued:
        amd = {"HW_ID": None, "CSP_ID": der_ia5(csp_id), **changes.pop("amd", {})}
        return self.vcek(name="SEV-VLEK", by=self.asvk, amd=amd, **changes)

    def report(self, **changes: Any) -> bytes:
        """A report with `changes`, signed by the chip key."""
        return sign(replace(REPORT, **changes), self.chip_key)

    def crl(self, *revoked: int, by: Issued | None = None, until: datetime | None = None) -> bytes:
        """The ARK's CRL over serial numbers `revoked`."""
        until = until or NOW + timedelta(days=30)
        builder = x509.CertificateRevocationListBuilder(self.ark.certificate.subject)
        builder = builder.last_update(NOW - timedelta(days=10)).next_update(until)
        builder = builder.add_extension(x509.CRLNumber(4), critical=False)
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder(serial, NOW - timedelta(days=20))
            builder = builder.add_revoked_certificate(entry.build())
        signed = builder.sign((by or self.ark).key, hashes.SHA384(), rsa_padding=PSS)
        return signed.public_bytes(Encoding.DER)


def sign(report: SnpReport, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The report's bytes with a signature by `key`."""
    r, s = decode_dss_signature(key.sign(report.signed, ec.ECDSA(hashes.SHA384())))
    return replace(report, signature_r=r, signature_s=s).to_bytes()


@lru_cache
def line(product: str = "Genoa") -> Line:
    """A line made once per run: RSA keys take a while."""
    ark = issue(f"ARK-{product}", None, serial=1)
    ask = issue(f"SEV-{product}", ark, serial=2)
    asvk = issue(f"SEV-VLEK-{product}", ark, serial=3)
    return Line(product=product, ark=ark, ask=ask, asvk=asvk)
