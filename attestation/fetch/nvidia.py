"""NVIDIA's RIM service and OCSP responder (RFC 6960): manifests by id, certificate status with a nonce."""

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Iterable
from functools import partial
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from ..collateral import Kind
from ..collateral_store import Item
from ..encoding import strict_json
from ..errors import CollateralUnavailable, MalformedEvidence
from ..nvidia import CertificateChain, GpuReport, OpaqueType, Rim
from ..nvidia.chain import ERRORS, Certificate
from .request import Items, Reply, Request
from .services import Service

MAX_ANSWER = 4 * 1024 * 1024
MAX_RESPONSE = 32 * 1024
NONCE_SIZE = 32
SWITCH = "LS10"
HOPPER = "GH100"
BLACKWELL = "GB100"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def requests(report: GpuReport, chain: CertificateChain | None) -> list[Request]:
    """The manifests that verifying `report` needs; CollateralUnavailable if it does not name them."""
    return [manifest(name) for name in rim_ids(report, chain)]


def rim_ids(report: GpuReport, chain: CertificateChain | None) -> list[str]:
    """The ids of the driver's and the VBIOS's manifest; on a switch, of its BIOS's.

    They are made of what the device reports: project, SKUs, versions, and the chip's name.
    """
    opaque = report.opaque
    chip, _ = (chain.device_name if chain else None) or ("", "")
    board = [opaque.text(kind) for kind in (OpaqueType.PROJECT, OpaqueType.PROJECT_SKU, OpaqueType.CHIP_SKU)]
    version = (opaque.vbios_version or "").replace(".", "").upper()
    suffix = "_".join([*(part or "" for part in board), version])
    if chip == SWITCH:
        return [_checked(f"NV_SWITCH_BIOS_{suffix}", *board, version)]
    driver = opaque.driver_version
    if not chip:
        raise CollateralUnavailable("without its certificates a report does not say its chip; give its chain")
    # From Blackwell on a driver's manifest is named by the chip that the report names, if it does.
    hopper = chip == HOPPER
    name = f"NV_GPU_DRIVER_{HOPPER}" if hopper else f"NV_GPU_CC_DRIVER_{opaque.chip_info or BLACKWELL}"
    return [_checked(f"{name}_{driver}", driver), _checked(f"NV_GPU_VBIOS_{suffix}", *board, version)]


def _checked(name: str, *parts: str | None) -> str:
    if not all(parts) or not _ID.fullmatch(name):
        raise CollateralUnavailable(
            "the device's report does not name its manifests by project, SKU and version; "
            "give a report of a driver that does"
        )
    return name


def manifest(name: str) -> Request:
    """The request for the manifest with the id `name`."""
    return Request(
        service=Service.NVIDIA_RIM,
        path=f"/v1/rim/{name}",
        read=partial(_manifest, name=name),
        limit=MAX_ANSWER,
    )


def status(certificates: Iterable[Certificate]) -> list[Request]:
    """A status request for each of `certificates` but the last, which issued the one before it.

    The address is NVIDIA's responder, whatever a certificate says of one.
    """
    return [_status(each, issuer) for each, issuer in pairwise(certificates)]


def device_status(chain: CertificateChain) -> list[Request]:
    """Status requests for a device's chain but its leaf, which the device itself issued, and the root."""
    return status(chain.certificates[1:])


def signer_status(item: Item) -> list[Request]:
    """Status requests for the signers of a manifest but their root."""
    return status(Rim.from_bytes(item.raw).certificates)


def _status(certificate: Certificate, issuer: Certificate, nonce: bytes | None = None) -> Request:
    nonce = nonce or secrets.token_bytes(NONCE_SIZE)
    try:
        builder = ocsp.OCSPRequestBuilder().add_certificate(
            certificate.parsed, issuer.parsed, hashes.SHA384()
        )
        built = builder.add_extension(x509.OCSPNonce(nonce), critical=False).build()
    except ERRORS as error:
        raise CollateralUnavailable(
            f"no status request for {certificate.name!r}: {error}; check it"
        ) from None
    return Request(
        service=Service.NVIDIA_OCSP,
        path="/",
        read=partial(_response, asked=built, nonce=nonce),
        limit=MAX_RESPONSE,
        body=built.public_bytes(serialization.Encoding.DER),
        content_type="application/ocsp-request",
        name=f"{built.serial_number:x} {built.issuer_key_hash.hex()}",
    )


def _response(reply: Reply, asked: ocsp.OCSPRequest, nonce: bytes) -> Items:
    try:
        response = ocsp.load_der_ocsp_response(reply.body)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise MalformedEvidence(f"the responder answers {response.response_status.name}")
        about = {
            (each.serial_number, each.issuer_name_hash, each.issuer_key_hash) for each in response.responses
        }
        given = response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    except x509.ExtensionNotFound:
        raise MalformedEvidence("the response carries no nonce, so it may be an old one") from None
    except ERRORS as error:
        raise MalformedEvidence(f"not an OCSP response: {error}") from None
    if given != nonce:
        raise MalformedEvidence("the response's nonce is not the one that was sent")
    if (asked.serial_number, asked.issuer_name_hash, asked.issuer_key_hash) not in about:
        raise MalformedEvidence("the response is not about the certificate asked for")
    return (Item(Kind.NVIDIA_OCSP, reply.body),)


def _manifest(reply: Reply, name: str) -> Items:
    value = strict_json(reply.body, limit=MAX_ANSWER)
    if not isinstance(value, dict) or value.get("id") != name or not isinstance(value.get("rim"), str):
        raise MalformedEvidence(f"the answer is not the manifest {name}")
    if value.get("rim_format", "TCG") != "TCG":
        raise MalformedEvidence(f"the manifest is in the format {str(value['rim_format'])[:16]!r}, not TCG")
    try:
        raw = base64.b64decode(value["rim"], validate=True)
    except (binascii.Error, ValueError):
        raise MalformedEvidence("the manifest is not base64") from None
    digest = value.get("sha256")
    if digest is not None and digest != hashlib.sha256(raw).hexdigest():
        raise MalformedEvidence("the manifest has another SHA-256 than the service says")
    Rim.from_bytes(raw)
    return (Item(Kind.NVIDIA_RIM, raw),)
