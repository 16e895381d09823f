"""A simulated GPU's identity: five certificates of NVIDIA's form and signed SPDM measurements.

The key that signs belongs to the device and to the code it runs (DICE): other code, another key,
another firmware identity in leaf and report, other measurements.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from attestation.der import dotted
from attestation.nvidia import GpuReport, Measurement, MeasurementsRequest, OpaqueData, OpaqueType
from attestation.nvidia.opaque import DISABLED, FeatureFlag
from attestation.nvidia.tcb_info import DICE_TCB_INFO

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
_ENGINE = "packages/enclave/engine/"
_LIBRARIES = frozenset({"torch", "transformers", "peft", "safetensors"})


def device_code(measured: CodeMeasurement) -> bytes:
    """SHA-384 over the measured files that a device runs: the engine and the libraries under it."""
    lines = (f"{entry.name} {entry.sha256}\n" for entry in measured.entries if _runs_on_device(entry.name))
    return hashlib.sha384("".join(lines).encode()).digest()


def measurement_blocks(code: bytes) -> tuple[Measurement, ...]:
    """The 64 SPDM measurement blocks of a device that runs `code`: SHA-384 values, indices 1 to 64."""
    label = b"cloister/simulated-gpu/v1"
    values = (hashlib.sha384(label + bytes((index,)) + code).digest() for index in range(1, BLOCKS + 1))
    return tuple(Measurement(index=i, kind=1, value=value) for i, value in enumerate(values, 1))


def measurement_digest(code: bytes) -> bytes:
    """SHA-384 of the measurement record: what a policy's [nvidia_gpu] measurements list."""
    return hashlib.sha384(b"".join(block.to_bytes() for block in measurement_blocks(code))).digest()


def _runs_on_device(entry: str) -> bool:
    parts = entry.split("/", 3)  # "sites/0/torch/..."
    installed = parts[0] == "sites" and len(parts) > 3 and parts[2] in _LIBRARIES
    return installed or entry.startswith(_ENGINE)


@dataclass(slots=True)
class GpuIdentity:
    """Device `index` of a machine: answers GET_MEASUREMENTS. `code` is what `device_code` gives.

    `seed` (32 bytes) makes the device's key and serial number. `debug` sets the operational flag of
    a device in debug mode, for tests.
    """

    code: bytes
    index: int = 0
    seed: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    debug: bool = False
    clock: Callable[[], datetime] = utc_now
    _key: ec.EllipticCurvePrivateKey = field(init=False, repr=False)
    _certificates: tuple[x509.Certificate, ...] = field(init=False, repr=False)
    _issuers: tuple[NvidiaAuthority, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        unit = self.index.to_bytes(4, "big")
        root, model, provisioner = device_authorities()
        device_key = derived_key(self.seed, b"device", unit)
        self._key = derived_key(self.seed, b"firmware", unit, self.fwid)
        issuer = provisioner.certificate.subject
        builder = frame(name("GH100 A01 GSP BROM", SERIAL_NUMBER=self.serial), issuer, _VALID)
        builder = with_authority(builder, None).public_key(device_key.public_key())
        device = NvidiaAuthority(builder.sign(provisioner.key, hashes.SHA384()), device_key)
        leaf = self._leaf(device.certificate.subject).sign(device.key, hashes.SHA384())
        self._issuers = (root, model, provisioner)
        above = (each.certificate for each in (provisioner, model, root))
        self._certificates = (leaf, device.certificate, *above)

    @property
    def fwid(self) -> bytes:
        """SHA-384 that identifies the firmware."""
        return hashlib.sha384(b"cloister/simulated-gpu/fwid" + self.code).digest()

    @property
    def serial(self) -> str:
        """The device's serial number, 16 hexadecimal digits."""
        return hashlib.sha256(self.seed + self.index.to_bytes(4, "big")).hexdigest()[:16].upper()

    @property
    def chain(self) -> bytes:
        """Leaf, device, provisioner, model, root in PEM."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in self._certificates)

    def report(self, nonce: bytes) -> bytes:
        """Signed measurements for `nonce`. ValueError unless it is 32 bytes."""
        if len(nonce) != 32:
            raise ValueError("nonce is 32 bytes")
        unsigned = GpuReport(
            request=MeasurementsRequest(nonce=nonce),
            measurements=measurement_blocks(self.code),
            responder_nonce=os.urandom(32),
            opaque=self._opaque(),
            signature=bytes(96),
        )
        r, s = decode_dss_signature(self._key.sign(unsigned.signed, ec.ECDSA(hashes.SHA384())))
        return unsigned.signed + r.to_bytes(48, "big") + s.to_bytes(48, "big")

    def ocsp(self) -> tuple[bytes, ...]:
        """Status responses of today, "good", for every certificate but leaf and root, each by its issuer."""
        root, model, provisioner = self._issuers
        _, device, *_ = self._certificates
        pairs = (
            (device, provisioner),
            (provisioner.certificate, model),
            (model.certificate, root),
        )
        return tuple(self._good(certificate, issuer) for certificate, issuer in pairs)

    def _good(self, certificate: x509.Certificate, issuer: NvidiaAuthority) -> bytes:
        now = self.clock().replace(microsecond=0)
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

    def _leaf(self, issuer: x509.Name) -> x509.CertificateBuilder:
        text = f"NVIDIA:{CHIP}:{self.serial}".encode("ascii")
        other = x509.OtherName(_DEVICE_NAME, bytes((0x0C, len(text))) + text)
        tcb = x509.UnrecognizedExtension(x509.ObjectIdentifier(dotted(DICE_TCB_INFO)), self._tcb_info())
        builder = with_signing(frame(name("GH100 A01 GSP FMC LF"), issuer, _VALID))
        builder = builder.public_key(self._key.public_key())
        return builder.add_extension(x509.SubjectAlternativeName([other]), False).add_extension(tcb, False)

    def _tcb_info(self) -> bytes:
        """DiceTcbInfo: vendor, FWID, operational flags (notConfigured, notSecure, recovery, debug)."""
        fwid = _tlv(0x30, _SHA384_OID + _tlv(0x04, self.fwid))
        flags = bytes((0x10 if self.debug else 0x00, 0, 0, 0))
        return _tlv(0x30, _tlv(0x80, b"SIMULATED") + _tlv(0xA6, fwid) + _tlv(0x87, b"\0" + flags))

    def _opaque(self) -> OpaqueData:
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


def _tlv(tag: int, content: bytes) -> bytes:
    """One DER element of less than 128 bytes."""
    return bytes((tag, len(content))) + content
