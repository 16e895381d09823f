"""Judging an Azure Attestation token. The service saw the evidence; this sees the service's word for it."""

import base64
import hmac
from collections.abc import Iterable, Mapping
from typing import Any

from ..collateral import Kind
from ..context import Context
from ..jose import Key, Token, instant, key_set
from ..verdict import Sheet
from .checks import MaaCheck as Check
from .policy import MaaPolicy

ALGORITHM = "RS256"
SNP, TDX = "sevsnpvm", "tdxvm"
_DEBUG = {SNP: "x-ms-sevsnpvm-is-debuggable", TDX: "tdx_td_attributes_debug"}
_MEASUREMENT = {SNP: "x-ms-sevsnpvm-launchmeasurement", TDX: "tdx_mrtd"}
_VM_DEBUG = ("bootdebug", "hypervisordebug", "kerneldebug")
_TCB_STATUS, _DEBUG_STATUS = "attester_tcb_status", "dbgstat"  # of the profile for TDX
_SVN = {"guest": "x-ms-sevsnpvm-guestsvn"}


def appraise(
    token: Token,
    context: Context,
    rules: MaaPolicy,
    *,
    subject: str,
    nonce: bytes | None,
    runtime: Mapping[str, Any] | None = None,
) -> Sheet:
    """The sheet of one token.

    `nonce` is what the client gave the service as payload "nonce"; None makes that check
    unevaluable. `runtime` are members that x-ms-runtime must have, compared if given. The keys
    are those under Kind.AZURE_MAA_KEYS, which must be the policy's issuer's own.

    1. the issuer's key signed it;
    2. it is the issuer's, and current;
    3. the machine is of a kind that the policy names, compliant, not to be debugged;
    4. measurement, versions and the service's own policy are listed ones;
    5. it answers this nonce, for this key.
    """
    sheet = Sheet(subject, _required(token, rules, nonce, runtime))
    _check_signature(sheet, token, context, rules)  # 1
    issuer = token.claims.get("iss")
    sheet.record(Check.ISSUER, issuer == rules.issuer, _text(issuer), rules.issuer)  # 2
    found = f"{instant(token.seconds('nbf'))} to {instant(token.seconds('exp'))}"
    current = token.current(context.now, rules.max_clock_skew)
    sheet.record(Check.VALIDITY, current, found, f"holds at {context.now.isoformat()}")
    isolation = _isolation(token.claims)
    _check_machine(sheet, token.claims, isolation, rules)  # 3
    _check_listed(sheet, token.claims, isolation, rules)  # 4
    _check_bound(sheet, token.claims, nonce, runtime)  # 5
    _claim(sheet, token, isolation)
    return sheet


def _required(
    token: Token, rules: MaaPolicy, nonce: bytes | None, runtime: Mapping[str, Any] | None
) -> set[Check]:
    required = set(Check)
    if nonce is None and rules.allow_missing_nonce:
        required.remove(Check.NONCE)
    if runtime is None:
        required.remove(Check.RUNTIME)
    return required


def _check_signature(sheet: Sheet, token: Token, context: Context, rules: MaaPolicy) -> None:
    documents = context.collateral.of(Kind.AZURE_MAA_KEYS)
    if not documents:
        sheet.unevaluable(Check.KEY, f"no key set of {rules.issuer}")
        return
    key = key_set(documents).get(token.kid or "")
    listed = "any key of the set given, as the policy spells out"
    if rules.keys is not None:
        listed = ", ".join(sorted(item.hex() for item in rules.keys))
    if key is None:
        sheet.record(Check.KEY, False, f"unknown key id {_text(token.kid)}", listed)
        return
    trusted = rules.keys is None or key.thumbprint in rules.keys
    sheet.record(Check.KEY, trusted, key.thumbprint.hex(), listed)
    _verify(sheet, token, key)


def _verify(sheet: Sheet, token: Token, key: Key) -> None:
    signed = token.signed_by(key, ALGORITHM)
    found = f"{_text(token.header.get('alg'))}, {'verifies' if signed else 'does not verify'}"
    sheet.record(Check.SIGNATURE, signed, found, ALGORITHM)


def _isolation(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is said of the TEE: nested in a virtual machine's token, otherwise the token itself."""
    nested = claims.get("x-ms-isolation-tee")
    if isinstance(nested, dict):
        return nested
    return claims if _text(claims.get("x-ms-attestation-type")) in _DEBUG else {}


def _check_machine(
    sheet: Sheet, claims: Mapping[str, Any], isolation: Mapping[str, Any], rules: MaaPolicy
) -> None:
    tee, compliance = _text(isolation.get("x-ms-attestation-type")), isolation.get("x-ms-compliance-status")
    sheet.record(Check.ISOLATION, tee in rules.tees, tee, _listed(rules.tees))
    sheet.record(
        Check.COMPLIANCE, _text(compliance) in rules.compliance, _text(compliance), _listed(rules.compliance)
    )
    flags = {_DEBUG.get(tee, "debuggable"): isolation.get(_DEBUG.get(tee, ""))}
    if claims.get("x-ms-attestation-type") == "azurevm":
        names = [f"x-ms-azurevm-{name}-enabled" for name in _VM_DEBUG]
        flags |= {name: claims[name] for name in names if name in claims}
    odd = [f"{name} is {_text(value)}" for name, value in flags.items() if value is not False]
    status = isolation.get(_DEBUG_STATUS, claims.get(_DEBUG_STATUS))
    if status is not None and not _text(status).startswith("disabled"):  # RFC 9711, 4.2.9
        odd.append(f"{_DEBUG_STATUS} is {_text(status)}")
    _spelled(sheet, Check.DEBUG, odd, rules.allow_debug, "every debug claim false")
    moves = isolation.get("x-ms-sevsnpvm-migration-allowed") if tee == SNP else False
    odd = [] if moves is False else [f"migration-allowed is {_text(moves)}"]
    _spelled(sheet, Check.MIGRATION, odd, rules.allow_migration, "migration not allowed")
    booted = claims.get("secureboot")
    odd = [] if booted is True else [f"secureboot is {_text(booted)}"]
    _spelled(sheet, Check.SECURE_BOOT, odd, rules.allow_no_secure_boot, "secureboot true")


def _check_listed(
    sheet: Sheet, claims: Mapping[str, Any], isolation: Mapping[str, Any], rules: MaaPolicy
) -> None:
    tee = _text(isolation.get("x-ms-attestation-type"))
    measurement = _text(isolation.get(_MEASUREMENT.get(tee, ""))).lower()
    allowed = None if rules.measurements is None else {item.hex() for item in rules.measurements}
    _in_list(sheet, Check.MEASUREMENT, measurement, allowed)
    _in_list(sheet, Check.POLICY_HASH, _text(claims.get("x-ms-policy-hash")), rules.policy_hashes)
    low = []
    for name, minimum in rules.minimum_svn.items():
        value = isolation.get(_SVN.get(name, f"x-ms-sevsnpvm-{name}-svn"))
        if type(value) is not int or value < minimum:
            low.append(f"{name} {_text(value)}")
    status = isolation.get(_TCB_STATUS, claims.get(_TCB_STATUS))
    if status is not None and _text(status) not in rules.tcb_statuses:
        low.append(f"status {_text(status)}")
    least = _listed(f"{name} {minimum}" for name, minimum in rules.minimum_svn.items())
    wanted = f"at least: {least}; where a status is told: {_listed(rules.tcb_statuses)}"
    sheet.record(Check.TCB, not low, _listed(low) if low else "none below", wanted)


def _check_bound(
    sheet: Sheet, claims: Mapping[str, Any], nonce: bytes | None, runtime: Mapping[str, Any] | None
) -> None:
    given = _dict(claims.get("x-ms-runtime"))
    if nonce is None:
        sheet.unevaluable(Check.NONCE, "the verifier gave no nonce", "the verifier's nonce")
    else:
        expected = base64.b64encode(nonce).decode("ascii")
        found = _text(_client_nonce(claims))
        same = hmac.compare_digest(found.encode("utf-8", "replace"), expected.encode("ascii"))
        sheet.record(Check.NONCE, same, found, expected)
    if runtime is not None:
        differing = [name for name, value in runtime.items() if name not in given or given[name] != value]
        sheet.record(Check.RUNTIME, not differing, _listed(differing), "every member as expected")


def _claim(sheet: Sheet, token: Token, isolation: Mapping[str, Any]) -> None:
    claims = token.claims
    sheet.claims.update(
        iss=claims.get("iss"),
        kid=token.kid,
        iat=claims.get("iat"),
        exp=claims.get("exp"),
        attestation_type=claims.get("x-ms-attestation-type"),
        isolation_tee={name: value for name, value in isolation.items() if name != "x-ms-runtime"},
        secureboot=claims.get("secureboot"),
        policy_hash=claims.get("x-ms-policy-hash"),
        client_nonce=_client_nonce(claims),
        runtime_keys=_dict(claims.get("x-ms-runtime")).get("keys"),
    )


def _client_nonce(claims: Mapping[str, Any]) -> Any:
    return _dict(_dict(claims.get("x-ms-runtime")).get("client-payload")).get("nonce")


def _spelled(sheet: Sheet, check: Check, odd: list[str], allowed: bool, expected: str) -> None:
    found = "; ".join(odd) or "as expected"
    sheet.record(check, allowed or not odd, found, "any, as the policy spells out" if allowed else expected)


def _in_list(sheet: Sheet, check: Check, found: str, allowed: Iterable[str] | None) -> None:
    if allowed is None:
        sheet.record(check, True, found, "any, as the policy spells out")
    else:
        sheet.record(check, found in frozenset(allowed), found, _listed(allowed))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return "absent" if value is None else str(value)[:200]


def _listed(items: Iterable[str]) -> str:
    return ", ".join(sorted(items)) or "none"
