"""A simulated GPU's identity: five certificates of NVIDIA's form, a leaf key, and what it says of itself.

The leaf is made at every start for the code that runs (DICE): other code, another firmware identity in leaf
and report, other measurements. Its key exists in the device's process alone.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from attestation.nvidia import Measurement, OpaqueData, OpaqueType
from attestation.nvidia.opaque import DISABLED, FeatureFlag
from attestation.nvidia.tcb_info import DICE_TCB_INFO
from enclave.gpu.spdm.signing import sign
from enclave.memory import PROTECTED, Kind, SecretMemory

from .chip import utc_now
from .issuing import derived_key, frame, name, with_authority, with_signing
from .measure import Measurement as CodeMeasurement
from .roots import NvidiaAuthority, device_authorities

CHIP: Final = "GH100"
DRIVER: Final = "580.95.05"
VBIOS: Final = "96.00.CF.00.02"
BLOCKS: Final = 64
_VBIOS_FIELD = bytes.fromhex("00cf009602000000")
_VALID = (datetime(2022, 1, 1, tzinfo=UTC), datetime(2075, 1, 1, tzinfo=UTC))
_OCSP_VALIDITY = timedelta(days=1)
_DEVICE_NAME = x509.ObjectIdentifier("1.3.6.1.4.1.412.274.1")
_SHA384_OID = bytes.fromhex("0609608648016503040202")
_FIRMWARE = (
    *("sites/", "stdlib/", "python/", "packages/attestation/", "packages/sealing/"),
    *(
        f"packages/enclave/{name}"
        for name in (
            "__init__.py",
            "engine/",
            "gpu/",
            "simulator/",
            "files.py",
            "memory.py",
            "model_files.py",
        )
    ),
)
"""Names of what a device may load: of our packages what its process imports, of all others everything."""
_SECRET_SIZE = 64
_ORDER: Final = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)


class Mode(StrEnum):
    """How the device was switched on. A strict policy takes CONFIDENTIAL alone."""

    CONFIDENTIAL = "confidential"
    DEBUG = "debug"
    OFF = "off"


_FLAGS: Final = {Mode.CONFIDENTIAL: 0x00, Mode.DEBUG: 0x10, Mode.OFF: 0xC0}
"""Operational flags of the leaf, from the top: not configured, not secure, recovery, debug."""


def device_code(measured: CodeMeasurement) -> bytes:
    """SHA-384 over the measured files that a device runs: engine, link, and all libraries under them."""
    lines = (
        f"{entry.name} {entry.sha256}\n" for entry in measured.entries if entry.name.startswith(_FIRMWARE)
    )
    return hashlib.sha384("".join(lines).encode()).digest()


def measurement_blocks(code: bytes) -> tuple[Measurement, ...]:
    """The 64 SPDM measurement blocks of a device that runs `code`: SHA-384 values, indices 1 to 64."""
    label = b"cloister/simulated-gpu/v1"
    values = (hashlib.sha384(label + bytes((index,)) + code).digest() for index in range(1, BLOCKS + 1))
    return tuple(Measurement(index=i, kind=1, value=value) for i, value in enumerate(values, 1))


def measurement_digest(code: bytes) -> bytes:
    """SHA-384 of the measurement record: what a policy's [nvidia_gpu] measurements list."""
    return hashlib.sha384(b"".join(block.to_bytes() for block in measurement_blocks(code))).digest()


@dataclass(slots=True)
class GpuIdentity:
    """Device `index` of a machine, from its start to its end. `code` is what `device_code` gives.

    `seed` (32 bytes) is burnt into the device: its key and serial number. The leaf's key is fresh and lies
    in secret memory.
    """

    code: bytes
    index: int = 0
    seed: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    mode: Mode = Mode.CONFIDENTIAL
    kinds: tuple[Kind, ...] = PROTECTED
    _secret: SecretMemory = field(init=False, repr=False)
    _certificates: tuple[x509.Certificate, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        root, model, provisioner = device_authorities()
        self._secret = SecretMemory(_SECRET_SIZE, kinds=self.kinds)
        self._secret.fill_random()
        device_key = derived_key(self.seed, b"device", self.index.to_bytes(4, "big"))
        issuer = provisioner.certificate.subject
        builder = frame(name("GH100 A01 GSP BROM", SERIAL_NUMBER=self.serial), issuer, _VALID)
        builder = with_authority(builder, None).public_key(device_key.public_key())
        device = builder.sign(provisioner.key, hashes.SHA384())
        leaf = self._leaf(device.subject).sign(device_key, hashes.SHA384())
        above = (each.certificate for each in (provisioner, model, root))
        self._certificates = (leaf, device, *above)

    @property
    def memory(self) -> Kind:
        """Where the leaf's key lies."""
        return self._secret.kind

    @property
    def fwid(self) -> bytes:
        """SHA-384 that identifies the firmware."""
        return hashlib.sha384(b"cloister/simulated-gpu/fwid" + self.code).digest()

    @property
    def serial(self) -> str:
        """The device's serial number, 16 hexadecimal digits."""
        return hashlib.sha256(self.seed + self.index.to_bytes(4, "big")).hexdigest()[:16].upper()

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """Leaf, device, provisioner, model, root."""
        return self._certificates

    @property
    def chain(self) -> bytes:
        """The certificates in PEM, the leaf first."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in self._certificates)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """The measurement registers; those of a device that is not in confidential mode differ."""
        mode = b"" if self.mode is Mode.CONFIDENTIAL else self.mode.encode()
        return measurement_blocks(self.code + mode)

    def sign(self, message: bytes) -> bytes:
        """R || S by the leaf's key."""
        return sign(self._key(), message)

    def erase(self) -> None:
        """Zero the leaf's key, for good."""
        self._secret.close()

    def _key(self) -> ec.EllipticCurvePrivateKey:
        scalar = int.from_bytes(self._secret.buffer, "big") % (_ORDER - 1) + 1
        return ec.derive_private_key(scalar, ec.SECP384R1())

    def _leaf(self, issuer: x509.Name) -> x509.CertificateBuilder:
        text = f"NVIDIA:{CHIP}:{self.serial}".encode("ascii")
        other = x509.OtherName(_DEVICE_NAME, bytes((0x0C, len(text))) + text)
        tcb = x509.UnrecognizedExtension(DICE_TCB_INFO, self._tcb_info())
        builder = with_signing(frame(name("GH100 A01 GSP FMC LF"), issuer, _VALID))
        builder = builder.public_key(self._key().public_key())
        return builder.add_extension(x509.SubjectAlternativeName([other]), False).add_extension(tcb, False)

    def _tcb_info(self) -> bytes:
        """DiceTcbInfo: vendor, FWID, operational flags (notConfigured, notSecure, recovery, debug)."""
        fwid = _tlv(0x30, _SHA384_OID + _tlv(0x04, self.fwid))
        flags = bytes((_FLAGS[self.mode], 0, 0, 0))
        return _tlv(0x30, _tlv(0x80, b"SIMULATED") + _tlv(0xA6, fwid) + _tlv(0x87, b"\0" + flags))

    def opaque(self) -> OpaqueData:
        """What it says beside its measurements: versions, firmware identity, modes."""
        fields: Sequence[tuple[int, bytes]] = (
            (OpaqueType.VBIOS_VERSION, _VBIOS_FIELD),
            (OpaqueType.CHIP_SKU, b"895\0"),
            (OpaqueType.PROJECT, b"SIMULATED\0"),
            (OpaqueType.PROJECT_SKU, b"0000\0"),
            (OpaqueType.DRIVER_VERSION, DRIVER.encode("ascii") + b"\0"),
            (OpaqueType.NVDEC0_STATUS, bytes((DISABLED,))),
            (OpaqueType.FWID, self.fwid),
            (OpaqueType.PROTECTED_PCIE_STATUS, bytes((DISABLED,))),
            (OpaqueType.FEATURE_FLAG, FeatureFlag.SINGLE_GPU.to_bytes(2, "little")),
        )
        return OpaqueData.of(fields)


def status(chain: bytes, clock: Callable[[], datetime] = utc_now) -> tuple[bytes, ...]:
    """OCSP responses of today, "good", for every certificate of a PEM chain but leaf and root.

    Raises ValueError for a chain that is not of a simulated device.
    """
    root, model, provisioner = device_authorities()
    certificates = x509.load_pem_x509_certificates(chain)
    if len(certificates) != 5 or certificates[2] != provisioner.certificate:
        raise ValueError("not the chain of a simulated GPU")
    pairs = (
        (certificates[1], provisioner),
        (provisioner.certificate, model),
        (model.certificate, root),
    )
    return tuple(_good(certificate, issuer, clock()) for certificate, issuer in pairs)


def _good(certificate: x509.Certificate, issuer: NvidiaAuthority, at: datetime) -> bytes:
    now = at.replace(microsecond=0)
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=certificate,
        issuer=issuer.certificate,
        algorithm=hashes.SHA384(),
        cert_status=ocsp.OCSPCertStatus.GOOD,
        this_update=now - timedelta(hours=1),
        next_update=now + _OCSP_VALIDITY,
        revocation_time=None,
        revocation_reason=None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.certificate)
    return builder.sign(issuer.key, hashes.SHA384()).public_bytes(Encoding.DER)


def _tlv(tag: int, content: bytes) -> bytes:
    """One DER element of less than 128 bytes."""
    return bytes((tag, len(content))) + content
