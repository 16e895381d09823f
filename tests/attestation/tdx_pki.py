"""A PKI of our own in the place of Intel's, so that any collateral can be signed and any quote made.

Keys are made afresh for every run.
"""

import json
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ROOT, PLATFORM_CA, PCK = "Intel SGX Root CA", "Intel SGX PCK Platform CA", "Intel SGX PCK Certificate"
TCB_SIGNING = "Intel SGX TCB Signing"
FMSPC, PCEID, PPID = bytes.fromhex("90c06f000000"), b"\0\0", bytes(range(16))
QE_SIGNER = b"\xdc" * 32
INTEL_OID = "1.2.840.113741.1.13.1"
LATEST = bytes([4, 4, 2, 2, 4, 1, 0, 5, *([0] * 8)])
TDX_LATEST = bytes([5, 0, 3, *([0] * 13)])

Key = ec.EllipticCurvePrivateKey


@cache
def key(name: str) -> Key:
    """The key of this name, made on first use."""
    return ec.generate_private_key(ec.SECP256R1())


def name(common: str) -> x509.Name:
    """A subject as Intel writes it."""
    pairs = (
        (NameOID.COUNTRY_NAME, "US"),
        (NameOID.STATE_OR_PROVINCE_NAME, "CA"),
        (NameOID.LOCALITY_NAME, "Santa Clara"),
        (NameOID.ORGANIZATION_NAME, "Intel Corporation"),
        (NameOID.COMMON_NAME, common),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])


def issue(
    subject: str,
    public: Key,
    issuer: str,
    signer: Key,
    *,
    ca: bool,
    extension: bytes | None = None,
    serial: int | None = None,
    days: tuple[int, int] = (-30, 365),
    critical: bool = False,
) -> x509.Certificate:
    """A certificate of Intel's form."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(public.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(_usage(ca), critical=True)
    )
    if extension is not None:
        value = x509.UnrecognizedExtension(x509.ObjectIdentifier(INTEL_OID), extension)
        builder = builder.add_extension(value, critical=False)
    if critical:
        strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        builder = builder.add_extension(strange, critical=True)
    return builder.sign(signer, hashes.SHA256())


def crl(
    issuer: str, signer: Key, revoked: tuple[int, ...] = (), days: tuple[int, int] = (-1, 30), number: int = 1
) -> bytes:
    """A CRL in DER."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer))
        .last_update(NOW + timedelta(days=days[0]))
        .next_update(NOW + timedelta(days=days[1]))
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for serial in revoked:
        entry = (
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - timedelta(days=1))
        )
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def sgx_extension(components: bytes, pcesvn: int, fmspc: bytes = FMSPC, pceid: bytes = PCEID) -> bytes:
    """The SGX extension's value for a multi-package platform."""
    tcb = [_pair(f"{INTEL_OID}.2.{i + 1}", _integer(svn)) for i, svn in enumerate(components)]
    tcb += [_pair(f"{INTEL_OID}.2.17", _integer(pcesvn)), _pair(f"{INTEL_OID}.2.18", _tlv(4, components))]
    flags = [_pair(f"{INTEL_OID}.7.{i}", _tlv(1, b"\xff")) for i in (1, 2, 3)]
    return _sequence(
        _pair(f"{INTEL_OID}.1", _tlv(4, PPID)),
        _pair(f"{INTEL_OID}.2", _sequence(*tcb)),
        _pair(f"{INTEL_OID}.3", _tlv(4, pceid)),
        _pair(f"{INTEL_OID}.4", _tlv(4, fmspc)),
        _pair(f"{INTEL_OID}.5", _tlv(10, b"\x01")),
        _pair(f"{INTEL_OID}.6", _tlv(4, b"\x11" * 16)),
        _pair(f"{INTEL_OID}.7", _sequence(*flags)),
    )


def signed_json(member: str, table: dict[str, Any], signer: Key) -> bytes:
    """`{"<member>": ..., "signature": ...}` as Intel's service answers."""
    content = json.dumps(table, separators=(",", ":")).encode()
    signature = raw_signature(signer, content).hex().encode()
    return b'{"%b":%b,"signature":"%b"}' % (member.encode(), content, signature)


def raw_signature(signer: Key, data: bytes) -> bytes:
    """R || S over SHA-256 of `data`."""
    r, s = decode_dss_signature(signer.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def level(
    status: str = "UpToDate",
    sgx: bytes = LATEST,
    tdx: bytes = TDX_LATEST,
    pcesvn: int = 13,
    advisories: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A platform TCB level of TCB info for TDX."""
    tcb = {
        "sgxtcbcomponents": [{"svn": svn} for svn in sgx],
        "pcesvn": pcesvn,
        "tdxtcbcomponents": [{"svn": svn} for svn in tdx],
    }
    found = {"tcb": tcb, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": status}
    return found | ({"advisoryIDs": list(advisories)} if advisories else {})


def svn_level(isvsvn: int, status: str = "UpToDate", advisories: tuple[str, ...] = ()) -> dict[str, Any]:
    """A TCB level of a TDX module or an enclave."""
    found = {"tcb": {"isvsvn": isvsvn}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": status}
    return found | ({"advisoryIDs": list(advisories)} if advisories else {})


def module(number: int, *levels: dict[str, Any], **fields: str) -> dict[str, Any]:
    """A TDX module identity."""
    table: dict[str, Any] = {"id": f"TDX_{number:02X}", **_SEAM, "tcbLevels": list(levels)}
    return table | fields


_SEAM = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}


def tcb_info(**fields: Any) -> dict[str, Any]:
    """TCB info for TDX with one level and one module, changed by `fields`."""
    table: dict[str, Any] = {
        "id": "TDX",
        "version": 3,
        "issueDate": "2026-04-20T00:00:00Z",
        "nextUpdate": "2026-05-20T00:00:00Z",
        "fmspc": FMSPC.hex().upper(),
        "pceId": PCEID.hex(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": 19,
        "tdxModule": _SEAM,
        "tdxModuleIdentities": [module(1, svn_level(6))],
        "tcbLevels": [level()],
    }
    return table | fields


def qe_identity(**fields: Any) -> dict[str, Any]:
    """The identity of the TD quoting enclave, changed by `fields`."""
    table: dict[str, Any] = {
        "id": "TD_QE",
        "version": 2,
        "issueDate": "2026-04-20T00:00:00Z",
        "nextUpdate": "2026-05-20T00:00:00Z",
        "tcbEvaluationDataNumber": 19,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11" + "00" * 15,
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_SIGNER.hex().upper(),
        "isvprodid": 2,
        "tcbLevels": [svn_level(6)],
    }
    return table | fields


def pem(certificate: x509.Certificate) -> bytes:
    """The certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


@cache
def root() -> x509.Certificate:
    """The root in the place of Intel's."""
    return issue(ROOT, key("root"), ROOT, key("root"), ca=True, serial=1)


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=not ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(digits)]) + digits + content


def _sequence(*items: bytes) -> bytes:
    return _tlv(0x30, b"".join(items))


def _integer(value: int) -> bytes:
    return _tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _pair(oid: str, value: bytes) -> bytes:
    arcs = [int(arc) for arc in oid.split(".")]
    content = bytes([arcs[0] * 40 + arcs[1]])
    for arc in arcs[2:]:
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        content += bytes(reversed(groups))
    return _sequence(_tlv(6, content), value)
