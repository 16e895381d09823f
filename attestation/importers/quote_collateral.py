"""Intel's collateral in one JSON object of strings, as verification libraries hand it on (Phala's dcap-qvl).

TCB info and QE identity stand there as the text that Intel signed, beside their signatures; CRLs are
in hexadecimal or base64, certificate chains in PEM.
"""

from typing import Any

from ..encoding import strict_json
from ..errors import MalformedEvidence
from .trustee import octets

MAX_DOCUMENT = 1024 * 1024
SIGNED = {"tcb_info": "tcbInfo", "qe_identity": "enclaveIdentity"}
"""What Intel's own answer calls each signed member."""

_CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
_CRLS = ("root_ca_crl", "pck_crl")


def parts(raw: bytes) -> list[bytes]:
    """The files that Intel's services would have given, in their own form; MalformedEvidence."""
    value = strict_json(raw, limit=MAX_DOCUMENT)
    if not isinstance(value, dict):
        raise MalformedEvidence("collateral of a quote is not an object")
    found = [_answer(value, name) for name in SIGNED]
    found += [octets(value[name], name) for name in _CRLS if value.get(name)]
    chains = (octets(value[name], name) for name in _CHAINS if value.get(name))
    return found + list(dict.fromkeys(chains))


def _answer(value: dict[str, Any], name: str) -> bytes:
    text, signature = value.get(name), octets(value.get(f"{name}_signature"), f"the signature of {name}")
    if not isinstance(text, str) or not isinstance(strict_json(text.encode(), limit=MAX_DOCUMENT), dict):
        raise MalformedEvidence(f"{name} is not an object as text")
    return f'{{"{SIGNED[name]}":{text},"signature":"{signature.hex()}"}}'.encode()
