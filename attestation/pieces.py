"""What a file is, told by its content alone: magic numbers, structure, members. Nothing is judged."""

import base64
import binascii
import re
import zlib
from enum import StrEnum
from typing import Any

from . import certificates
from .bare import bare
from .encoding import strict_json
from .errors import MalformedEvidence
from .evidence import FORMAT as BUNDLE_FORMAT
from .importers.tinfoil import FORMAT as TINFOIL_FORMAT
from .importers.tinfoil import REPORT_FORMATS
from .sources import VTPM_FORMAT

MAX_FILE = 8 * 1024 * 1024
SNP_REPORT_SIZE = 1184
BANKS = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}
_TOKEN = re.compile(rb"\s*eyJ[\w-]+\.[\w-]+\.[\w-]*\s*")
_HEX = re.compile(rb"(0x)?(?:[0-9a-fA-F]{2}[\s:]*){16,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_\s-]{24,}+={0,2}\s*")  # possessive: white space is in both
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_SPECIFICATION = b"Spec ID Event03\0"
_BARE_SIGNATURES = (256, 384, 512)


class Piece(StrEnum):
    """Kinds of files; the value is what a person calls it."""

    BUNDLE = "Cloister bundle"
    VTPM_DOCUMENT = "Azure vTPM document"
    AZURE_DOCUMENT = "Trustee's Azure document"
    TPM_DOCUMENT = "Trustee's TPM document"
    TINFOIL = "Tinfoil document"
    TINFOIL_REPORT = "report of Tinfoil's earlier versions"
    QUOTE_DOCUMENT = "quote document"
    SEVERAL = "several attestations, of which each is a document by itself"
    TSM_REPORT = "report of Linux's TSM interface"
    SNP_REPORT = "SEV-SNP report"
    CERTIFICATE_TABLE = "certificate table"
    TDX_QUOTE = "TDX quote"
    SGX_QUOTE = "SGX quote"
    HCL_REPORT = "HCL report"
    DEVICE_REPORT = "NVIDIA device report"
    DEVICE_LIST = "list of NVIDIA devices"
    TPM_QUOTE = "TPM quote"
    TPM_SIGNATURE = "TPM signature"
    TPM_PUBLIC = "TPM public area"
    PCRS = "register values"
    EVENT_LOG = "event log"
    NITRO = "Nitro document"
    UVM = "UVM endorsement"
    MAA_TOKEN = "Azure Attestation token"  # noqa: S105
    NRAS = "NRAS response"
    RIM = "NVIDIA manifest"
    CERTIFICATES = "certificates"
    INTEL_CHAIN = "Intel certificates"
    CRL = "CRL"
    OCSP = "OCSP response"
    TCB_INFO = "Intel TCB info"
    QE_IDENTITY = "Intel enclave identity"
    QUOTE_COLLATERAL = "collateral of an Intel quote"
    KEY_SET = "key set"
    PUBLIC_KEY = "public key"
    TEXT = "text"
    OTHER = "other data"


def identify(raw: bytes) -> tuple[Piece, bytes]:
    """The kind of `raw`, and it without a wrapping: hexadecimal, base64, and what `bare` takes off.

    MalformedEvidence names what was tried. That a kind was told does not mean that it parses.
    """
    if len(raw) > MAX_FILE:
        raise MalformedEvidence(f"file of {len(raw)} bytes exceeds {MAX_FILE}")
    raw = bare(raw)
    found = _binary(raw) or _text(raw)
    if found is not None:
        return found, raw
    inner = bare(_unwrapped(raw) or b"")
    found = _binary(inner) or _text(inner) if inner else None
    if found is None and len(inner) in _BARE_SIGNATURES and not _printable(inner):
        found = Piece.TPM_SIGNATURE
    if found is not None:
        return found, inner
    if _printable(raw):
        return Piece.TEXT, raw
    if len(raw) in _BARE_SIGNATURES:
        return Piece.TPM_SIGNATURE, raw
    tried = ", ".join(sorted(set(Piece) - {Piece.TEXT, Piece.OTHER}))
    raise MalformedEvidence(f"{len(raw)} bytes that are none of: {tried}")


def _binary(raw: bytes) -> Piece | None:
    head, second = int.from_bytes(raw[:2], "big"), int.from_bytes(raw[2:4], "big")
    if raw[:4] == b"HCLA":
        return Piece.HCL_REPORT
    if raw[:4] == b"\xffTCG":
        return Piece.TPM_QUOTE
    if raw[:2] == b"\x11\xe0":
        return Piece.DEVICE_REPORT
    if raw[:4] == b"CCEL":
        return Piece.OTHER
    if _is_log(raw):
        return Piece.EVENT_LOG
    if len(raw) >= SNP_REPORT_SIZE and int.from_bytes(raw[:4], "little") in range(2, 6):
        return Piece.SNP_REPORT
    if raw[:2] in (b"\3\0", b"\4\0", b"\5\0") and raw[2:4] in (b"\2\0", b"\3\0"):
        return {0: Piece.SGX_QUOTE, 0x81: Piece.TDX_QUOTE}.get(int.from_bytes(raw[4:8], "little"))
    if head in (0x14, 0x16, 0x18) and second in (0x04, 0x0B, 0x0C, 0x0D) and len(raw) < 1100:
        return Piece.TPM_SIGNATURE
    if head in (0x01, 0x23) and second in (0x0B, 0x0C, 0x0D) and len(raw) < 2048:
        return Piece.TPM_PUBLIC
    if raw[:2] == b"\x30\x82":
        return _der(raw)
    if raw[:1] == b"\x30" and _is_key(raw):
        return Piece.PUBLIC_KEY
    if raw[:1] in (b"\xd2", b"\x84"):
        return _cose(raw)
    return Piece.CERTIFICATE_TABLE if _is_table(raw) else None


def _is_key(raw: bytes) -> bool:
    try:
        certificates.public_key(raw)
    except MalformedEvidence:
        return False
    return True


def _is_log(raw: bytes) -> bool:
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = zlib.decompressobj(wbits=31).decompress(raw, 64)
        except zlib.error:
            return False
    return raw[8:28] == bytes(20) and raw[32:48] == _SPECIFICATION


def _is_table(raw: bytes) -> bool:
    from .snp import table

    return raw[:16] in table.CERTIFICATES | {table.CRL}


def _der(raw: bytes) -> Piece:
    from cryptography.x509 import ocsp

    from .crl import load_crl

    try:
        load_crl(raw)
        return Piece.CRL
    except MalformedEvidence:
        pass
    try:
        certificates.from_der(raw)
    except MalformedEvidence:
        try:
            ocsp.load_der_ocsp_response(raw)
            return Piece.OCSP
        except ValueError:
            if _is_key(raw):
                return Piece.PUBLIC_KEY
            return Piece.CERTIFICATES  # perhaps padded or damaged; whoever needs it will say
    return _certificates(raw)


def _certificates(raw: bytes) -> Piece:
    return Piece.INTEL_CHAIN if b"Intel SGX" in _ders(raw) else Piece.CERTIFICATES


def _ders(raw: bytes) -> bytes:
    try:
        return b"".join(item.raw for item in certificates.load_all(raw))
    except MalformedEvidence:
        return b""


def _cose(raw: bytes) -> Piece | None:
    from .cose import CONTENT_TYPE, Sign1

    try:
        message = Sign1.from_bytes(raw, limit=128 * 1024)
    except MalformedEvidence:
        return None
    return Piece.UVM if CONTENT_TYPE in message.headers else Piece.NITRO


def _text(raw: bytes) -> Piece | None:
    start = raw.lstrip()[:64]
    if start[:1] in (b"{", b"["):
        return _json(strict_json(raw, limit=MAX_FILE))
    if _TOKEN.fullmatch(raw):
        return _token(raw)
    if start[:1] == b"<" and b"SoftwareIdentity" in raw:
        return Piece.RIM
    if b"-----BEGIN CERTIFICATE-----" in raw:
        return _certificates(raw)
    if start.startswith(b"-----BEGIN X509 CRL"):
        return Piece.CRL
    return Piece.PUBLIC_KEY if start.startswith(b"-----BEGIN PUBLIC KEY") else None


def _token(raw: bytes) -> Piece:
    from .jose import Token

    claims = Token.from_compact(raw.decode("ascii").strip()).claims
    if any(name.startswith("x-ms-") for name in claims):
        return Piece.MAA_TOKEN
    raise MalformedEvidence("a signed token, but none of Azure Attestation")


def _json(value: Any) -> Piece:
    match value:
        case {"format": str(name)} if name in _FORMATS:
            return _FORMATS[name]
        case {"gateway_attestation": dict()} | {"model_attestations": [*_]}:
            return Piece.SEVERAL
        case {"tpm_quote": {"message": _}, "ak_public": str()}:
            return Piece.TPM_DOCUMENT
        case {"tpm_quote": {"message": _}} | {"quote": {"message": _}}:
            return Piece.AZURE_DOCUMENT
        case {"quote": str()} | {"intel_quote": str()} | {"tdx_quote": str()}:
            return Piece.QUOTE_DOCUMENT
        case {"outblob": str()}:
            return Piece.TSM_REPORT
        case (
            {"__cmwc_t": str()}
            | {"evidence_list": list()}
            | {"evidences": list()}
            | {"device_evidence_list": list()}
            | {"evidence": str(), "certificate": str()}
            | [{"evidence": str(), "certificate": str()}, *_]
        ):
            return Piece.DEVICE_LIST
        case [["JWT", str()], *_] | {"detached_eat": [["JWT", str()], *_]}:
            return Piece.NRAS
        case [{"imr": _}, *_]:
            return Piece.EVENT_LOG
        case {"tcb_info": str(), "tcb_info_signature": str(), "qe_identity": str()}:
            return Piece.QUOTE_COLLATERAL
        case {"keys": list()}:
            return Piece.KEY_SET
        case {"tcbInfo": _}:
            return Piece.TCB_INFO
        case {"enclaveIdentity": _}:
            return Piece.QE_IDENTITY
    return Piece.PCRS if _is_pcrs(value) else Piece.OTHER


_FORMATS = {
    BUNDLE_FORMAT: Piece.BUNDLE,
    VTPM_FORMAT: Piece.VTPM_DOCUMENT,
    TINFOIL_FORMAT: Piece.TINFOIL,
    **dict.fromkeys(REPORT_FORMATS, Piece.TINFOIL_REPORT),
}


def _is_pcrs(value: Any) -> bool:
    """A list of registers, a table of them by index, a table of banks, or "pcrs" with one of these."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, str) and len(item) // 2 in BANKS for item in value)
    if not isinstance(value, dict) or not value:
        return False
    if value.keys() == {"pcrs"}:
        return _is_pcrs(value["pcrs"])
    return value.keys() <= {*BANKS.values()} or all(name.isdecimal() for name in value)


def _unwrapped(raw: bytes) -> bytes | None:
    if _HEX.fullmatch(raw.strip()):
        return bytes.fromhex(raw.strip().removeprefix(b"0x").replace(b":", b"").decode("ascii"))
    if _BASE64.fullmatch(raw):
        digits = b"".join(raw.split()).translate(_URL_SAFE).rstrip(b"=")
        try:
            return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
        except binascii.Error:
            return None
    return None


def _printable(raw: bytes) -> bool:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return bool(text) and all(c.isprintable() or c in "\r\n\t" for c in text)
