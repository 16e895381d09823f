"""Members of a JSON object as they were sent, byte for byte, and device evidence in NVIDIA's own form."""

import base64
import binascii
import json
import re
from typing import Any

from ..encoding import strict_json
from ..errors import MalformedEvidence
from ..evidence import MAX_DEVICES, DeviceEvidence
from ..values import sequence

LISTS = ("evidence_list", "evidences", "device_evidence_list")
"""What an object around a list of device evidence calls it: NVIDIA's services and SDKs, Trustee's agents."""

COLLECTION = "__cmwc_t"
"""Marks a collection of conceptual messages (draft-ietf-rats-msg-wrap); NVIDIA's has an item a device."""

_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){256,}")
_SPACE = " \t\r\n"
_URL_SAFE = str.maketrans("-_", "+/")


def members(raw: bytes, limit: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The object in `raw`, and each member's value as it stands there; MalformedEvidence otherwise."""
    value = strict_json(raw, limit=limit)
    if not isinstance(value, dict):
        raise MalformedEvidence("not a JSON object")
    text, decoder, found = raw.decode("utf-8"), json.JSONDecoder(), {}
    at = _skip(text, _skip(text, 0) + 1)
    for _ in value:
        name, at = decoder.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, at = decoder.raw_decode(text, start)
        found[name] = text[start:at].encode()
        at = _skip(text, _skip(text, at) + 1)
    return value, found


def devices(value: Any, tee: str) -> tuple[DeviceEvidence, ...]:
    """The devices in NVIDIA's list of evidence, or an object around one; MalformedEvidence otherwise."""
    if isinstance(value, dict) and COLLECTION in value:
        value = [_unwrapped(item) for name, item in value.items() if name != COLLECTION]
    elif isinstance(value, dict) and "evidence" in value:
        value = [value]
    elif isinstance(value, dict):
        value = next((value[name] for name in LISTS if name in value), None)
    return tuple(_device(item, tee) for item in sequence(value, "device evidence", MAX_DEVICES))


def _unwrapped(item: Any) -> dict[str, str]:
    """A device's messages, each [media type, base64url], as NVIDIA's lists spell them."""
    match item:
        case {"evidence": [str(), str(report), *_], "certificate": [str(), str(chain), *_]}:
            return {"evidence": _padded(report), "certificate": _padded(chain)}
    raise MalformedEvidence("an item of a collection has no evidence and certificate of a device")


def _padded(text: str) -> str:
    return text.translate(_URL_SAFE).rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)


def base64_bytes(value: Any, what: str) -> bytes:
    """`value` as padded base64."""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise MalformedEvidence(f"{what} is not base64") from None


def hex_bytes(value: Any, what: str, size: int | None = None) -> bytes:
    """`value` as hexadecimal, of `size` bytes."""
    try:
        raw = bytes.fromhex(value.removeprefix("0x"))
    except (AttributeError, ValueError):
        raise MalformedEvidence(f"{what} is not hexadecimal") from None
    if size is not None and len(raw) != size:
        raise MalformedEvidence(f"{what} is {len(raw)} bytes, not {size}")
    return raw


def _device(item: Any, tee: str) -> DeviceEvidence:
    if not isinstance(item, dict):
        raise MalformedEvidence("device evidence is not an object")
    report, chain = item.get("evidence"), item.get("certificate")
    if isinstance(report, str) and _HEX.fullmatch(report):
        raw = bytes.fromhex(report)
    else:
        raw = base64_bytes(report, "a device's report")
    if isinstance(chain, str) and chain.startswith("-----BEGIN"):
        return DeviceEvidence(tee=tee, report=raw, chain=chain.encode("utf-8"))
    return DeviceEvidence(tee=tee, report=raw, chain=base64_bytes(chain, "a device's certificates"))


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at
