"""The simulated security processor's CPU side: a chip with a VCEK that signs attestation reports.

Reports and certificates are of AMD's form for the Genoa line, under the simulator's INSECURE root.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.snp import oids
from attestation.snp.flags import GuestFlag, GuestPolicy, PlatformInfo, SignerInfo, SigningKey
from attestation.snp.product import Cpuid, FirmwareVersion, Tcb
from attestation.snp.report import NO_MIGRATION_AGENT, SIGNATURE_ALGORITHM, SnpReport

from .issuing import PSS, derived_key, frame, name
from .roots import ark, ask

PRODUCT: Final = "Genoa"
TCB: Final = Tcb(bl=10, tee=0, snp=23, ucode=84)
FIRMWARE: Final = FirmwareVersion(1, 55, 40)
GUEST_POLICY: Final = GuestPolicy(0, 31, GuestFlag.RESERVED_ONE)
PLATFORM: Final = PlatformInfo.TSME | PlatformInfo.ECC | PlatformInfo.ALIAS_CHECK_COMPLETE
CPUID: Final = Cpuid(0x19, 0x11, 1)
SEED_SIZE: Final = 32
VALIDITY: Final = timedelta(days=7 * 365)
CRL_VALIDITY: Final = timedelta(days=1)
_LEVELS = ((oids.BL_SPL, "bl"), (oids.TEE_SPL, "tee"), (oids.SNP_SPL, "snp"), (oids.UCODE_SPL, "ucode"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What the chip reports of itself and of the guest's policy. The defaults pass a strict policy.

    Tests build others to see them refused; nothing on a command line does.
    """

    tcb: Tcb = TCB
    committed_tcb: Tcb | None = None
    guest_policy: GuestPolicy = GUEST_POLICY
    platform_info: PlatformInfo = PLATFORM
    firmware: FirmwareVersion = FIRMWARE
    certified_tcb: Tcb | None = None


def utc_now() -> datetime:
    """The host's clock."""
    return datetime.now(UTC)


@dataclass(slots=True)
class SnpProcessor:
    """One chip and one guest: signs ATTESTATION_REPORTs with this `measurement` (48 bytes).

    `seed` (32 bytes, random unless given) makes the chip: its CHIP_ID and its VCEK. `clock` gives
    the time for certificates and CRL.
    """

    measurement: bytes
    seed: bytes = field(default_factory=lambda: os.urandom(SEED_SIZE), repr=False)
    platform: Platform = field(default_factory=Platform)
    clock: Callable[[], datetime] = utc_now
    _key: ec.EllipticCurvePrivateKey = field(init=False, repr=False)
    _vcek: bytes = field(init=False, repr=False)
    _template: SnpReport = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.measurement) != 48 or len(self.seed) != SEED_SIZE:
            raise ValueError("a measurement has 48 bytes, a chip's seed 32")
        self._key = derived_key(self.seed, b"vcek", self.platform.tcb.to_bytes())
        self._vcek = self._issue().public_bytes(Encoding.DER)
        self._template = self._blank_report()

    @property
    def chip_id(self) -> bytes:
        """CHIP_ID, 64 bytes: fixed by the seed."""
        return hashlib.sha512(b"chip id" + self.seed).digest()

    @property
    def endorsements(self) -> tuple[bytes, ...]:
        """VCEK, ASK and ARK in DER, as a host hands them over with a report."""
        return (self._vcek, *(each.certificate.public_bytes(Encoding.DER) for each in (ask(), ark())))

    def report(self, report_data: bytes, vmpl: int = 0) -> bytes:
        """An attestation report, 1184 bytes. ValueError unless REPORT_DATA is 64 bytes and VMPL 0 to 3."""
        if len(report_data) != 64 or not 0 <= vmpl <= 3:
            raise ValueError("report_data is 64 bytes, vmpl 0 to 3")
        report = replace(self._template, report_data=report_data, vmpl=vmpl)
        r, s = decode_dss_signature(self._key.sign(report.signed, ec.ECDSA(hashes.SHA384())))
        return replace(report, signature_r=r, signature_s=s).to_bytes()

    def crl(self) -> bytes:
        """The ARK's revocation list of today, DER: it revokes nothing."""
        now = self.clock().replace(microsecond=0)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(ark().certificate.subject)
            .last_update(now - timedelta(hours=1))
            .next_update(now + CRL_VALIDITY)
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        return builder.sign(ark().key, hashes.SHA384(), rsa_padding=PSS).public_bytes(Encoding.DER)

    def _issue(self) -> x509.Certificate:
        """The VCEK certificate: no basic constraints or key usage, AMD's extensions instead."""
        now = self.clock().replace(microsecond=0)
        valid = (now - timedelta(days=1), now + VALIDITY)
        builder = frame(name("SEV-VCEK"), ask().certificate.subject, valid).public_key(self._key.public_key())
        for oid, value in self._extensions().items():
            extension = x509.UnrecognizedExtension(oid, value)
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(ask().key, hashes.SHA384(), rsa_padding=PSS)

    def _extensions(self) -> dict[x509.ObjectIdentifier, bytes]:
        tcb = self.platform.certified_tcb or self.platform.tcb
        product = PRODUCT.encode("ascii")
        levels = {oid: _integer(getattr(tcb, level)) for oid, level in _LEVELS}
        return {
            oids.STRUCT_VERSION: _integer(0),
            oids.PRODUCT_NAME: bytes((0x16, len(product))) + product,  # IA5String
            **levels,
            **dict.fromkeys(oids.RESERVED_SPLS, _integer(0)),
            oids.HW_ID: self.chip_id,
        }

    def _blank_report(self) -> SnpReport:
        facts = self.platform
        return SnpReport(
            version=3,
            guest_svn=0,
            policy=facts.guest_policy,
            family_id=bytes(16),
            image_id=bytes(16),
            vmpl=0,
            signature_algo=SIGNATURE_ALGORITHM,
            current_tcb=facts.tcb,
            platform_info=facts.platform_info,
            signer_info=SignerInfo(signing_key=SigningKey.VCEK),
            report_data=bytes(64),
            measurement=self.measurement,
            host_data=bytes(32),
            id_key_digest=bytes(48),
            author_key_digest=bytes(48),
            report_id=os.urandom(32),
            report_id_ma=NO_MIGRATION_AGENT,
            reported_tcb=facts.tcb,
            cpuid=CPUID,
            chip_id=self.chip_id,
            committed_tcb=facts.committed_tcb or facts.tcb,
            current_version=facts.firmware,
            committed_version=facts.firmware,
            launch_tcb=facts.tcb,
            launch_mit_vector=None,
            current_mit_vector=None,
            signature_r=0,
            signature_s=0,
        )


def _integer(value: int) -> bytes:
    """DER INTEGER of a level from 0 to 255."""
    return b"\x02\x01" + bytes((value,)) if value < 0x80 else b"\x02\x02\x00" + bytes((value,))
