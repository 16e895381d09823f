"""Evidence without what tools and transports put around it, none of which anybody signs.

A byte-order mark; text around PEM blocks (RFC 7468, section 2); zeros after a DER element, or further
elements; the size of a TPM2B; the header of the SEV guest device's answer; JSON around a single string,
or around the certificates that Azure's metadata service gives.
"""

import json
import re
from typing import Any

from . import der
from .certificates import pem
from .encoding import strict_json
from .errors import MalformedEvidence

_MARK = b"\xef\xbb\xbf"
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_MEMBER = rb'(?!"[0-9]+")' + _STRING + rb"\s*:\s*(" + _STRING + rb")"  # one by a number is a register
_QUOTED = re.compile(rb"\s*(?:(" + _STRING + rb")|\{\s*" + _MEMBER + rb"\s*\})\s*")
_VCEK, _CHAIN = "vcekCert", "certificateChain"  # of the metadata service's answer
_QUOTE = b"\xffTCG"
_KEYS = (b"\x00\x01", b"\x00\x23")  # TPM_ALG_RSA, TPM_ALG_ECC
_GUEST_HEADER = bytes(4) + (1184).to_bytes(4, "little") + bytes(24)
MAX_ELEMENTS = 16
MAX_ANSWER = 64 * 1024
MAX_LAYERS = 4


def bare(raw: bytes, layers: int = MAX_LAYERS) -> bytes:
    """`raw`, or what is left of it without a wrapping; what is not recognised stays as it is.

    JSON is taken off at most `layers` times.
    """
    raw = raw.removeprefix(_MARK)
    if raw.lstrip()[:1] in (b'"', b"{"):
        inner = _spoken(raw) if layers else None
        return raw if inner is None else bare(inner, layers - 1)
    if raw[:2] == b"\x30\x82":
        return _elements(raw)
    if raw.startswith(_GUEST_HEADER):
        return raw[len(_GUEST_HEADER) :]
    if len(raw) > 6 and int.from_bytes(raw[:2], "big") == len(raw) - 2:
        return raw[2:] if raw[2:6] == _QUOTE or raw[2:4] in _KEYS else raw
    if b"-----BEGIN CERTIFICATE-----" in raw and raw.count(b"-----BEGIN") == len(_PEM.findall(raw)):
        return _blocks(raw)
    return raw


def _spoken(raw: bytes) -> bytes | None:
    """What JSON says that is one string, an object of one, or an answer with a VCEK; else None."""
    found = _QUOTED.fullmatch(raw)
    if found is None and f'"{_VCEK}"'.encode() not in raw:
        return None
    try:
        value: Any = json.loads(found[1] or found[2]) if found else strict_json(raw, limit=MAX_ANSWER)
        if isinstance(value, dict):
            parts = [value[name] for name in (_VCEK, _CHAIN) if name in value]
            value = "\n".join(parts) if _VCEK in value else None
        return str(value).encode("utf-8") if isinstance(value, str) else None
    except (MalformedEvidence, ValueError, TypeError):
        return None


def _blocks(raw: bytes) -> bytes:
    """The certificates in text that says other things as well."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
    return raw if not _PEM.sub(b"", raw).strip(b" \t\r\n\0") else b"\n".join(_PEM.findall(raw)) + b"\n"


def _elements(raw: bytes) -> bytes:
    """One DER element without the zeros after it; several as PEM, since only that form holds several."""
    found: list[bytes] = []
    offset = 0
    try:
        while raw[offset:].strip(b"\0") and len(found) < MAX_ELEMENTS:
            _, _, end = der.header(raw, offset)
            found.append(raw[offset:end])
            offset = end
    except MalformedEvidence:
        return raw
    if len(found) == 1:
        return found[0]
    if raw[offset:].strip(b"\0") or not all(item[:2] == b"\x30\x82" for item in found):
        return raw
    return b"".join(map(pem, found))
