"""Makes the simulator's authorities anew: `python -m enclave.simulator.make_roots`, from the checkout.

Writes private keys as enclave/simulator/INSECURE_*.pem (readable by all: that is their point), roots
under attestation/roots/simulator, intermediates beside the keys, and prints the pins to put into
attestation/roots/pins.py. Every policy that was written for the old keys rejects what the new ones sign.
"""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from .issuing import MARK, PSS, frame, name, with_authority
from .roots import KEYS

START, END = datetime(2022, 1, 1, tzinfo=UTC), datetime(2075, 1, 1, tzinfo=UTC)
ROOTS = KEYS.parents[1] / "attestation" / "roots" / "simulator"
Signed = tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes]


def main() -> None:
    """Make and write every authority."""
    ark = _amd(f"ARK-Genoa ({MARK})", None, path_length=None)
    ask = _amd("SEV-Genoa", ark, path_length=0)
    root = _nvidia(f"NVIDIA Device Identity CA ({MARK})", None)
    model = _nvidia(f"NVIDIA GH100 Identity ({MARK})", root)
    provisioner = _nvidia(f"NVIDIA GH100 Provisioner ICA 1 ({MARK})", model)
    for vendor, stem, made in (
        ("amd", "genoa_ark", ark),
        ("amd", "genoa_ask", ask),
        ("nvidia", "device_identity_ca", root),
    ):
        _write(ROOTS / vendor, stem, made)
        print(f'"simulator/{vendor}" {stem}: {made[0].fingerprint(hashes.SHA256()).hex()}')
    _write(KEYS, "gh100_identity", model)
    _write(KEYS, "gh100_provisioner", provisioner)


def _amd(common_name: str, issuer: Signed | None, path_length: int | None) -> Signed:
    """A certificate as AMD issues them: RSA-4096, RSASSA-PSS with SHA-384."""
    key = rsa.generate_private_key(65537, 4096)
    builder = _builder(common_name, issuer, path_length).public_key(key.public_key())
    signer = issuer[1] if issuer else key
    return builder.sign(signer, hashes.SHA384(), rsa_padding=PSS), key


def _nvidia(common_name: str, issuer: Signed | None) -> Signed:
    """A certificate as NVIDIA issues them: P-384, ECDSA with SHA-384."""
    key = ec.generate_private_key(ec.SECP384R1())
    builder = _builder(common_name, issuer, None).public_key(key.public_key())
    return builder.sign(issuer[1] if issuer else key, hashes.SHA384()), key


def _builder(common_name: str, issuer: Signed | None, path_length: int | None) -> x509.CertificateBuilder:
    subject = name(common_name)
    builder = frame(subject, issuer[0].subject if issuer else subject, (START, END))
    return with_authority(builder, path_length)


def _write(folder: Path, stem: str, made: Signed) -> None:
    certificate, key = made
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    raw = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (KEYS / f"INSECURE_{stem}.pem").write_bytes(raw)


if __name__ == "__main__":
    main()
