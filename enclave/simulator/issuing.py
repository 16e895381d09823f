"""The frame of every certificate that the simulator issues, and the keys that it derives."""

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509 import NameOID

PSS = padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=hashes.SHA384.digest_size)
"""AMD's signature on certificates and CRLs: RSASSA-PSS, SHA-384, salt of 48 bytes."""

MARK = "SIMULATED INSECURE"
"""The organisation in the name of every certificate that the simulator issues."""


def name(common_name: str, **more: str) -> x509.Name:
    """A subject that says what it is; `more` are attributes by their NameOID names."""
    fields = [(NameOID.ORGANIZATION_NAME, MARK), (NameOID.COMMON_NAME, common_name)]
    fields += [(getattr(NameOID, key), value) for key, value in more.items()]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in fields])


def frame(subject: x509.Name, issuer: x509.Name, valid: tuple[datetime, datetime]) -> x509.CertificateBuilder:
    """A certificate without key and extensions; its serial number is random."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )


def with_authority(builder: x509.CertificateBuilder, path_length: int | None) -> x509.CertificateBuilder:
    """`builder` for a key that issues certificates and CRLs."""
    constraints = x509.BasicConstraints(True, path_length)
    return builder.add_extension(constraints, True).add_extension(_usage(issues=True), True)


def with_signing(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    """`builder` for a key that signs data and nothing else."""
    return builder.add_extension(_usage(issues=False), critical=True)


def derived_key(seed: bytes, *context: bytes) -> ec.EllipticCurvePrivateKey:
    """The P-384 key that belongs to `seed` and `context`; the same each time."""
    info = b"".join(len(part).to_bytes(4, "big") + part for part in context)
    raw = HKDF(algorithm=hashes.SHA384(), length=48 + 16, salt=None, info=info).derive(seed)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
    return ec.derive_private_key(int.from_bytes(raw, "big") % (order - 1) + 1, ec.SECP384R1())


def _usage(*, issues: bool) -> x509.KeyUsage:
    unused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    return x509.KeyUsage(
        **dict.fromkeys((*unused, "encipher_only", "decipher_only"), False),
        digital_signature=not issues,
        key_cert_sign=issues,
        crl_sign=issues,
    )
