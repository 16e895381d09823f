"""Intel's Provisioning Certification Service, version 4, or a PCCS: TCB info, QE identity, CRLs, chains."""

import binascii
from functools import partial
from urllib.parse import unquote_to_bytes

from .. import certificates
from ..collateral import Kind
from ..collateral_store import Item
from ..dcap.certificate import Crl, certificate, pem_chain
from ..dcap.collateral import ROOT_NAME
from ..dcap.documents import QeIdentity, SignedDocument, TcbInfo
from ..dcap.pck import PckExtension
from ..dcap.quote import BodyType, CertificationType, Quote
from ..errors import CollateralUnavailable, MalformedEvidence
from .request import Items, Reply, Request
from .services import Service

MAX_DOCUMENT = 256 * 1024
MAX_CRL = 1024 * 1024
AUTHORITIES = {"Intel SGX PCK Platform CA": "platform", "Intel SGX PCK Processor CA": "processor"}
TCB_CHAIN = ("tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain")
IDENTITY_CHAIN = ("sgx-enclave-identity-issuer-chain",)
CRL_CHAIN = ("sgx-pck-crl-issuer-chain",)
_QE = {"tdx": "TD_QE", "sgx": "QE"}


def requests(quote: Quote, *, pccs: bool = False) -> list[Request]:
    """What verifying `quote` needs; `pccs`: the root CA's CRL is asked of a PCCS too.

    CollateralUnavailable if the quote carries no PCK chain that says which platform it is from.
    """
    fmspc, authority = _platform(quote)
    tee = "sgx" if quote.body_type is BodyType.SGX else "tdx"
    return [
        Request(
            service=Service.INTEL_PCS,
            path=f"/{tee}/certification/v4/tcb",
            query=(("fmspc", fmspc.hex().upper()),),
            read=partial(_tcb_info, tee=tee.upper(), fmspc=fmspc),
            limit=MAX_DOCUMENT,
        ),
        Request(
            service=Service.INTEL_PCS,
            path=f"/{tee}/certification/v4/qe/identity",
            read=partial(_qe_identity, name=_QE[tee]),
            limit=MAX_DOCUMENT,
        ),
        Request(
            service=Service.INTEL_PCS,
            path="/sgx/certification/v4/pckcrl",
            query=(("ca", AUTHORITIES[authority]), ("encoding", "der")),
            read=partial(_pck_crl, issuer=authority),
            limit=MAX_CRL,
        ),
        Request(
            service=Service.INTEL_CERTIFICATES,
            path="/sgx/certification/v4/rootcacrl" if pccs else "/IntelSGXRootCA.der",
            read=_root_crl,
            name="root CA CRL",
            limit=MAX_CRL,
        ),
    ]


def _platform(quote: Quote) -> tuple[bytes, str]:
    """FMSPC, and the name of the PCK certificate's CA."""
    if quote.certification_type != CertificationType.PCK_CHAIN:
        raise CollateralUnavailable(
            f"the quote carries certification data of type {quote.certification_type}, not a PCK chain; "
            "configure the platform's quote provider to deliver one"
        )
    try:
        leaf, *rest = (certificate(item) for item in pem_chain(quote.certification_data))
        extension = PckExtension.from_bytes(leaf.sgx_extension or b"")
        authority = certificates.common_name(leaf.issuer)
    except MalformedEvidence as error:
        raise CollateralUnavailable(
            f"the quote's PCK chain does not parse: {error}; get a new quote"
        ) from None
    if authority not in AUTHORITIES or not rest:
        raise CollateralUnavailable("the quote's PCK certificate is of no PCK CA of Intel's; get a new quote")
    return extension.fmspc, authority


def _tcb_info(reply: Reply, tee: str, fmspc: bytes) -> Items:
    found = TcbInfo.from_json(SignedDocument.from_bytes(reply.body, "tcbInfo").content)
    if (found.id, found.fmspc) != (tee, fmspc):
        raise MalformedEvidence(f"TCB info of {found.id} {found.fmspc.hex()}, not {tee} {fmspc.hex()}")
    chain = _issuers(reply, TCB_CHAIN)
    return Item(Kind.INTEL_TCB_INFO, reply.body), Item(Kind.INTEL_TCB_SIGNING_CHAIN, chain)


def _qe_identity(reply: Reply, name: str) -> Items:
    found = QeIdentity.from_json(SignedDocument.from_bytes(reply.body, "enclaveIdentity").content)
    if found.id != name:
        raise MalformedEvidence(f"the identity of {found.id}, not {name}")
    chain = _issuers(reply, IDENTITY_CHAIN)
    return Item(Kind.INTEL_QE_IDENTITY, reply.body), Item(Kind.INTEL_TCB_SIGNING_CHAIN, chain)


def _pck_crl(reply: Reply, issuer: str) -> Items:
    crl, chain = _crl(reply.body, issuer), _issuers(reply, CRL_CHAIN)
    return Item(Kind.INTEL_PCK_CRL, crl), Item(Kind.INTEL_PCK_CRL_CHAIN, chain)


def _root_crl(reply: Reply) -> Items:
    return (Item(Kind.INTEL_ROOT_CRL, _crl(reply.body, ROOT_NAME)),)


def _issuers(reply: Reply, names: tuple[str, ...]) -> bytes:
    """The PEM chain in the first of these headers; percent-encoded there."""
    value = next((reply.headers[name] for name in names if name in reply.headers), None)
    if value is None:
        raise MalformedEvidence(f"the answer has no {names[0]} header")
    chain = unquote_to_bytes(value)
    for item in pem_chain(chain):
        certificate(item)
    return chain


def _crl(body: bytes, issuer: str) -> bytes:
    """The DER of a CRL in DER, PEM or hexadecimal (a PCCS), if it is the one of `issuer`."""
    raw = body
    if raw.lstrip().startswith(b"-----BEGIN"):
        raw = certificates.pem_blocks(raw, b"X509 CRL")[0]
    elif raw[:1] != b"\x30":
        try:
            raw = binascii.unhexlify(raw.strip())
        except binascii.Error:
            raise MalformedEvidence("the CRL is neither DER nor PEM nor hexadecimal") from None
    if certificates.common_name(Crl.from_bytes(raw).issuer) != issuer:
        raise MalformedEvidence(f"the CRL is not that of {issuer}")
    return raw
