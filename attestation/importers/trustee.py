"""Evidence of Confidential Containers' agents as one JSON document: Azure's vTPM, and TPMs in general.

Versions differ in how they write bytes: arrays of numbers, hexadecimal, base64 of either alphabet.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from ..encoding import strict_json
from ..errors import MalformedEvidence
from ..sources import AzureVtpm, Pcrs, TpmQuotes
from ..values import sequence

MAX_DOCUMENT = 1024 * 1024
BANK = "sha256"
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_URL_SAFE = str.maketrans("-_", "+/")


def azure(raw: bytes, endorsements: tuple[bytes, ...] = ()) -> AzureVtpm:
    """HCL report, quote, registers, and the VCEK or TD quote; MalformedEvidence for anything else."""
    return azure_parts(strict_json(raw, limit=MAX_DOCUMENT), endorsements)


def azure_parts(document: Any, endorsements: tuple[bytes, ...] = ()) -> AzureVtpm:
    """`azure` of a document that is parsed already."""
    table = _table(document, "the document")
    quote = _table(table.get("tpm_quote", table.get("quote")), "the TPM quote")
    td, vcek = table.get("td_quote"), table.get("vcek")
    return AzureVtpm(
        hcl=octets(table.get("hcl_report", table.get("report")), "the HCL report"),
        quote=_signed(quote),
        pcrs=_registers(quote.get("pcrs")),
        endorsements=(*((octets(vcek, "the VCEK"),) if vcek is not None else ()), *endorsements),
        td_quote=octets(td, "the TD quote") if td is not None else None,
    )


def tpm(raw: bytes, certificates: tuple[bytes, ...] = ()) -> TpmQuotes:
    """Quote, key and registers of a TPM; MalformedEvidence for anything else."""
    table = _table(strict_json(raw, limit=MAX_DOCUMENT), "the document")
    quote = _table(table.get("tpm_quote"), "the TPM quote")
    return TpmQuotes(
        quotes=(_signed(quote),),
        public=octets(table.get("ak_public"), "the attestation key"),
        certificates=certificates,
        pcrs=_registers(quote.get("pcrs")),
    )


def octets(value: Any, what: str) -> bytes:
    """Bytes in any of the spellings; PEM as it stands."""
    try:
        if isinstance(value, list):
            return bytes(sequence(value, what, MAX_DOCUMENT))
        if not isinstance(value, str):
            raise MalformedEvidence(f"{what} is missing")
        if value.startswith("-----BEGIN"):
            return value.encode("utf-8")
        if _HEX.fullmatch(value):
            return bytes.fromhex(value)
        digits = "".join(value.split()).translate(_URL_SAFE).rstrip("=")
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise MalformedEvidence(f"{what} is neither numbers, hexadecimal nor base64") from None


def _signed(quote: Mapping[str, Any]) -> tuple[bytes, bytes]:
    return octets(quote.get("message"), "the quote"), octets(quote.get("signature"), "the signature")


def _table(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise MalformedEvidence(f"{what} is not an object")
    return value


def _registers(value: Any) -> Pcrs:
    return {BANK: dict(enumerate(octets(item, "a register") for item in sequence(value, "registers", 24)))}
