"""Makes devices of NVIDIA's form under a root of its own, so that one fact at a time can be wrong."""

import base64
import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509 import NameOID, ocsp

from attestation.nvidia import GpuReport, Measurement, MeasurementsRequest, OpaqueData, OpaqueType
from attestation.roots import Roots

NOW = datetime(2026, 6, 1, tzinfo=UTC)
START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
NONCE = bytes(range(32))
FWID = bytes(range(48))
NAMES = ("NVIDIA Device Identity CA", "GH100 Identity", "GH100 Provisioner", "GH100 BROM", "GH100 FMC")


def tlv(tag: int, *content: bytes) -> bytes:
    """One DER element of less than 64 KiB."""
    body = b"".join(content)
    if len(body) < 0x80:
        return bytes((tag, len(body))) + body
    size = len(body).to_bytes(1 if len(body) < 0x100 else 2, "big")
    return bytes((tag, 0x80 | len(size))) + size + body


def fwid_der(digest: bytes = FWID) -> bytes:
    """A FWID: SHA-384 and the digest."""
    return tlv(0x30, tlv(0x06, bytes.fromhex("608648016503040202")), tlv(0x04, digest))


def dice_tcb_info(*fwids: bytes, flags: bytes | None = bytes(4)) -> tuple[str, bytes]:
    """OID and value of a DiceTcbInfo; `flags` are the bits of its operational flags."""
    bits = tlv(0x87, b"\0" + flags) if flags is not None else b""
    return "2.23.133.5.4.1.1", tlv(0x30, tlv(0x80, b"NVIDIA"), tlv(0xA6, *map(fwid_der, fwids)), bits)


def composite_device_id(fwid: bytes = FWID) -> tuple[str, bytes]:
    """OID and value of the older form, with an arbitrary key."""
    return "2.23.133.5.4.1", tlv(0x30, tlv(0x02, b"\1"), tlv(0x30, tlv(0x06, b"\1")), fwid_der(fwid))


@dataclass(frozen=True)
class Party:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, message: bytes) -> bytes:
        """R || S over `message`."""
        r, s = decode_dss_signature(self.key.sign(message, ec.ECDSA(hashes.SHA384())))
        return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def issue(
    name: str,
    issuer: Party | None,
    *,
    authority: bool = True,
    path_length: int | None = None,
    cert_sign: bool = True,
    signs: bool | None = None,
    start: datetime = START,
    end: datetime = END,
    algorithm: hashes.SHA256 | hashes.SHA384 | None = None,
    extra: tuple[x509.ExtensionType, ...] = (),
    critical_extra: bool = False,
) -> Party:
    """A certificate for `name` by `issuer`, or self-signed; `signs`: data, else whoever is no authority."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
    ) | {"encipher_only": False, "decipher_only": False}
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(authority, path_length if authority else None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority if signs is None else signs,
                key_cert_sign=authority and cert_sign,
                **usage,
            ),
            critical=True,
        )
    )
    for extension in extra:
        builder = builder.add_extension(extension, critical=critical_extra)
    signer = issuer.key if issuer else key
    return Party(builder.sign(signer, algorithm or hashes.SHA384()), key)


def leaf_extras(
    tcb: tuple[str, bytes] | None, chip: str = "GH100", serial: str = "48B0"
) -> tuple[x509.ExtensionType, ...]:
    """The leaf's alternative name and its TCB info."""
    name = x509.OtherName(
        x509.ObjectIdentifier("1.3.6.1.4.1.412.274.1"), tlv(0x0C, f"NVIDIA:{chip}:{serial}".encode())
    )
    extras: tuple[x509.ExtensionType, ...] = (x509.SubjectAlternativeName([name]),)
    if tcb:
        extras += (x509.UnrecognizedExtension(x509.ObjectIdentifier(tcb[0]), tcb[1]),)
    return extras


def roots(**anchors: Party) -> Roots:
    """Roots that trust these parties, by the names under which NVIDIA's are pinned."""
    certificates = MappingProxyType({name: party.certificate for name, party in anchors.items()})
    return Roots(names=frozenset({"test"}), anchors=MappingProxyType({"nvidia": certificates}), custom=True)


class Device:
    """A root, and one device under it. `parties` run from the root to the leaf."""

    def __init__(
        self,
        tcb: tuple[str, bytes] | None = None,
        *,
        chip: str = "GH100",
        above: tuple[Party, ...] | None = None,
    ) -> None:
        parties = list(above or ())
        while len(parties) < 4:
            parties.append(issue(NAMES[len(parties)], parties[-1] if parties else None))
        extras = leaf_extras(tcb or dice_tcb_info(FWID), chip)
        parties.append(issue(NAMES[4], parties[-1], authority=False, extra=extras))
        self.parties = tuple(parties)

    @property
    def chain(self) -> bytes:
        """The chain as a device offers it, leaf first."""
        return pem(self.parties)

    @property
    def roots(self) -> Roots:
        """Roots that trust this device's maker."""
        return roots(device_identity_ca=self.parties[0])

    def report(self, *, nonce: bytes = NONCE, **opaque: bytes | None) -> bytes:
        """A signed report; `opaque` changes or drops fields by the names of OpaqueType."""
        defaults: dict[str, bytes | None] = {
            "DRIVER_VERSION": b"550.90.07\0",
            "VBIOS_VERSION": bytes.fromhex("005e009601000000"),
            "NVDEC0_STATUS": b"\x55",
            "FWID": FWID,
            "PROTECTED_PCIE_STATUS": b"\x55",
            "FEATURE_FLAG": bytes(2),
        }
        fields = defaults | opaque
        pairs = [(OpaqueType[name], value) for name, value in fields.items() if value is not None]
        blocks = tuple(Measurement(index=i, kind=1, value=bytes([i]) * 48) for i in range(1, 65))
        return self.sign(MeasurementsRequest(nonce=nonce), blocks, OpaqueData.of(pairs))

    def sign(
        self, request: MeasurementsRequest, blocks: tuple[Measurement, ...], opaque: OpaqueData
    ) -> bytes:
        """A report with these parts, signed by the leaf."""
        unsigned = GpuReport(
            request=request,
            measurement_record=b"".join(block.to_bytes() for block in blocks),
            responder_nonce=bytes(32),
            opaque=opaque,
            signature=bytes(96),
        )
        return unsigned.signed + self.parties[-1].sign(unsigned.signed)

    def ocsp(
        self,
        depth: int,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        *,
        reason: x509.ReasonFlags | None = None,
        this_update: datetime = NOW,
        next_update: datetime | None = END,
        signer: Party | None = None,
        issuer: Party | None = None,
    ) -> bytes:
        """A response about the party at `depth` (the root is 0) by its issuer, or by `signer`."""
        about, above = self.parties[depth].certificate, issuer or self.parties[depth - 1]
        by = signer or above
        revoked = START if status is ocsp.OCSPCertStatus.REVOKED else None
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=about,
            issuer=above.certificate,
            algorithm=hashes.SHA384(),
            cert_status=status,
            this_update=this_update,
            next_update=next_update,
            revocation_time=revoked,
            revocation_reason=reason,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, by.certificate)
        if signer:
            builder = builder.certificates([signer.certificate])
        return builder.sign(by.key, hashes.SHA384()).public_bytes(serialization.Encoding.DER)


def pem(parties: tuple[Party, ...]) -> bytes:
    """`parties` in PEM, the last first."""
    return b"".join(party.pem for party in reversed(parties))


RIM = """<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" \
xmlns:h="http://www.w3.org/2001/04/xmlenc#sha384" name="{product}" tagId="{tag}" version="1.0">
  <Meta colloquialVersion="{version}" edition="GPU" product="{product}"/>
  <Payload>{resources}</Payload>
<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo>\
<ds:CanonicalizationMethod Algorithm="{c14n}"/>\
<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"/>\
<ds:Reference URI=""><ds:Transforms>\
<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>\
<ds:Transform Algorithm="{c14n}"/></ds:Transforms>\
<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"/>\
<ds:DigestValue>DIGEST</ds:DigestValue></ds:Reference></ds:SignedInfo>\
<ds:SignatureValue>SIGNATURE</ds:SignatureValue>\
<ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo></ds:Signature></SoftwareIdentity>"""
C14N = "http://www.w3.org/2006/12/xml-c14n11"


def resource(index: int, *values: str, active: bool = True, size: int = 48) -> str:
    """One golden measurement, as its element."""
    hashes_ = " ".join(f'h:Hash{number}="{value}"' for number, value in enumerate(values))
    return (
        f'<Resource type="Measurement" index="{index}" active="{active}" alternatives="{len(values)}"'
        f' {hashes_} name="Measurement_{index}" size="{size}"/>'
    )


class Publisher:
    """A root for manifests and one signer under it. `parties` run from the root to the signer."""

    def __init__(self, parties: Sequence[Party] = ()) -> None:
        root = issue("CoRIM Root", None) if not parties else parties[0]
        self.parties = tuple(parties) or (root, issue("RIM Signer", root, authority=False))

    def rim(
        self,
        golden: Mapping[int, Sequence[str]],
        *,
        product: str = "GH100",
        version: str = "550.90.07",
        resources: str | None = None,
        c14n: str = C14N,
    ) -> bytes:
        """A signed manifest with these active values by index, or with the elements `resources`."""
        inner = resources
        if inner is None:
            inner = "".join(resource(index, *values) for index, values in golden.items())
        certificates = "".join(
            f"<ds:X509Certificate>{base64.b64encode(der).decode()}</ds:X509Certificate>"
            for party in reversed(self.parties)
            for der in [party.certificate.public_bytes(serialization.Encoding.DER)]
        )
        text = RIM.format(
            product=product,
            version=version,
            tag=f"{product}-{version}",
            resources=inner,
            c14n=c14n,
            certificates=certificates,
        )
        return self.sign(text, exclusive="exc" in c14n)

    def sign(self, text: str, *, exclusive: bool = False) -> bytes:
        """`text` with DIGEST and SIGNATURE filled in."""
        etree: Any = importlib.import_module("lxml.etree")

        def canonical(node: object) -> bytes:
            return bytes(etree.tostring(node, method="c14n", exclusive=exclusive))

        root = etree.fromstring(text.encode())
        root.remove(root[-1])
        digest = hashlib.sha384(canonical(root)).digest()
        text = text.replace("DIGEST", base64.b64encode(digest).decode())
        info = etree.fromstring(text.encode())[-1][0]
        signature = self.parties[-1].sign(canonical(info))
        return text.replace("SIGNATURE", base64.b64encode(signature).decode()).encode()
