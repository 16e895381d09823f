"""Judging an NRAS response. The service saw the evidence; this sees the service's word for it."""

import hashlib
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from ..certificates import Certificate
from ..collateral import Kind
from ..context import Context
from ..jose import Key, Token, instant, key_set
from ..paths import expired
from ..verdict import Sheet
from .checks import NrasCheck as Check
from .checks import NrasDeviceCheck as DeviceCheck
from .device import appraise_device
from .policy import NrasPolicy
from .response import NrasResponse

ALGORITHM = "ES384"
ISSUER = "https://nras.attestation.nvidia.com"
SUBJECT = "NVIDIA-PLATFORM-ATTESTATION"


def appraise(
    response: NrasResponse, context: Context, rules: NrasPolicy, *, subject: str, nonce: bytes | None
) -> tuple[Sheet, ...]:
    """The sheets of one response: the overall token's, then one a device, "<subject>.<name>".

    `nonce` are the bytes whose hexadecimal form was sent to the service; None makes that check
    unevaluable. The keys are those under Kind.NVIDIA_NRAS_KEYS.

    1. the service's key signed the overall token;
    2. it is the production service's, current, says true, and answers this nonce;
    3. it signs the digest of every device's token, and there are as many as the policy wants;
    4. each device's token holds by itself, under the same key and nonce.
    """
    required = set(Check)
    if nonce is None and rules.allow_missing_nonce:
        required.remove(Check.NONCE)
    sheet = Sheet(subject, required)
    key = _check_signature(sheet, response.overall, context, rules)  # 1
    _check_token(sheet, response.overall, context, rules, nonce)  # 2
    _check_submodules(sheet, response, rules)  # 3
    _claim(sheet, response, key)
    devices = [  # 4
        _device(f"{subject}.{name}", token, response.overall, key, context, rules)
        for name, token in sorted(response.devices.items())
    ]
    return (sheet, *devices)


def _device(
    subject: str, token: Token, overall: Token, key: Key | None, context: Context, rules: NrasPolicy
) -> Sheet:
    dropped = {DeviceCheck.DEVICE} if rules.ueids is None else set()
    sheet = Sheet(subject, frozenset(DeviceCheck) - dropped)
    if key is not None:
        signed = token.kid == key.kid and token.signed_by(key, ALGORITHM)
        found = "verifies" if signed else "does not verify"
        sheet.record(DeviceCheck.SIGNATURE, signed, found, f"{ALGORITHM}, under the overall token's key")
    good = token.claims.get("iss") == ISSUER and token.current(context.now, rules.max_clock_skew)
    found = f"{token.claims.get('iss')}, until {instant(token.seconds('exp'))}"
    sheet.record(DeviceCheck.TOKEN, good, found, f"{ISSUER}, holds at {context.now.isoformat()}")
    appraise_device(sheet, token.claims, overall.claims.get("eat_nonce"), rules)
    return sheet


def _check_signature(sheet: Sheet, token: Token, context: Context, rules: NrasPolicy) -> Key | None:
    """Record KEY and SIGNATURE; the key, trusted or not, under which the tokens claim to be."""
    documents = context.collateral.of(Kind.NVIDIA_NRAS_KEYS)
    if not documents:
        sheet.unevaluable(Check.KEY, "no key set of the service")
        return None
    key = key_set(documents).get(token.kid or "")
    if key is None:
        sheet.record(Check.KEY, False, f"unknown key id {token.kid}", "a key of the service's key set")
        return None
    wrong = _key_faults(key, context, rules)
    expected = "a current certificate from a listed authority"
    if rules.key_issuers is None:
        expected = "any key of the set given, as the policy spells out"
    sheet.record(Check.KEY, not wrong, "; ".join(wrong) or key.kid, expected)
    signed = token.signed_by(key, ALGORITHM)
    found = f"{token.header.get('alg')}, {'verifies' if signed else 'does not verify'}"
    sheet.record(Check.SIGNATURE, signed, found, ALGORITHM)
    return key


def _key_faults(key: Key, context: Context, rules: NrasPolicy) -> list[str]:
    """What is wrong with a key's certificates; their being the key's own was a matter of parsing."""
    path: tuple[Certificate, ...] = key.x5c
    found = [f"{name} is not valid now" for name in expired(path, context.now)]
    broken = [a.name for a, b in pairwise(path) if not a.issued_by(b)]
    found += [f"{name} was not issued by the next certificate" for name in broken]
    if rules.key_issuers is not None:
        authorities = {hashlib.sha256(item.spki).digest() for item in path[1:]}
        found += [] if authorities & rules.key_issuers else ["no listed authority issued the key"]
    return found


def _check_token(
    sheet: Sheet, token: Token, context: Context, rules: NrasPolicy, nonce: bytes | None
) -> None:
    issuer = token.claims.get("iss")
    sheet.record(Check.ISSUER, issuer == ISSUER, str(issuer), ISSUER)
    found = f"{instant(token.seconds('nbf'))} to {instant(token.seconds('exp'))}"
    current = token.current(context.now, rules.max_clock_skew)
    sheet.record(Check.VALIDITY, current, found, f"holds at {context.now.isoformat()}")
    result, about = token.claims.get("x-nvidia-overall-att-result"), token.claims.get("sub")
    sheet.record(Check.RESULT, result is True and about == SUBJECT, f"{about}: {result}", f"{SUBJECT}: True")
    if nonce is None:
        sheet.unevaluable(Check.NONCE, "the verifier gave no nonce", "the verifier's nonce")
    else:
        answered = str(token.claims.get("eat_nonce"))
        sheet.record(Check.NONCE, answered.lower() == nonce.hex(), answered, nonce.hex())


def _check_submodules(sheet: Sheet, response: NrasResponse, rules: NrasPolicy) -> None:
    signed = response.overall.claims.get("submods")
    digests = {name: _digest(value) for name, value in signed.items()} if isinstance(signed, dict) else {}
    given = {
        name: hashlib.sha256(token.compact.encode("ascii")).hexdigest()
        for name, token in response.devices.items()
    }
    odd = sorted(name for name in digests.keys() | given.keys() if digests.get(name) != given.get(name))
    found = f"differing: {', '.join(odd)}" if odd else f"{len(given)} agree"
    sheet.record(Check.SUBMODULES, bool(given) and not odd, found, "every device's token, and no other")
    sheet.record(Check.DEVICES, len(given) == rules.count, f"{len(given)}", f"{rules.count}")
    names = [token.claims.get("ueid") for token in response.devices.values()]
    known = {name for name in names if isinstance(name, str) and name}
    sheet.record(Check.DISTINCT, len(known) == len(names), f"{len(known)} distinct", f"{len(names)}")


def _digest(value: Any) -> str | None:
    match value:
        case ["DIGEST", ["SHA-256" | "SHA256", str(digest)]]:
            return digest.lower()
    return None


def _claim(sheet: Sheet, response: NrasResponse, key: Key | None) -> None:
    claims, devices = response.overall.claims, [token.claims for token in response.devices.values()]
    sheet.claims |= {
        "kid": response.overall.kid,
        "x-nvidia-ver": claims.get("x-nvidia-ver"),
        "overall": claims.get("x-nvidia-overall-att-result"),
        "eat_nonce": claims.get("eat_nonce"),
        "iat": claims.get("iat"),
        "exp": claims.get("exp"),
        "devices": len(devices),
        "measres": _seen(devices, "measres"),
        "hwmodel": _seen(devices, "hwmodel"),
        "driver": _seen(devices, "x-nvidia-gpu-driver-version"),
        "vbios": _seen(devices, "x-nvidia-gpu-vbios-version", "x-nvidia-switch-bios-version"),
    }
    if key is not None and key.x5c:
        sheet.claims["x5c_leaf_valid"] = [str(key.x5c[0].not_before), str(key.x5c[0].not_after)]


def _seen(devices: Iterable[Mapping[str, Any]], *names: str) -> list[str]:
    """The distinct values of the first of `names` that a device has, as text."""
    return sorted({str(next((d[name] for name in names if name in d), None))[:200] for d in devices})
