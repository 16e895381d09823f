"""Judging a confidential container instance: hardware report, endorsed utility VM, security policy."""

import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from .. import snp
from ..context import Context
from ..cose import PS384
from ..paths import expired, extended_usages, faults, find, signs_data
from ..verdict import Sheet
from .checks import AciCheck as Check
from .did import DidX509
from .policy import AciPolicy
from .uvm import UvmEndorsement


def appraise_aci(
    report: bytes,
    endorsements: Sequence[bytes],
    uvm: UvmEndorsement,
    context: Context,
    rules: AciPolicy,
    *,
    subject: str,
    report_data: bytes | None,
    security_policy: bytes | None,
) -> tuple[Sheet, Sheet]:
    """The sheets of a container group: the hardware's under `subject`, and "<subject>.aci".

    `report`, `endorsements` and `report_data` as for `snp.appraise`, whose policy section judges the
    report; its measurement and HOST_DATA are judged here. `security_policy` is the text that
    HOST_DATA must be the SHA-256 of; it may be absent if the policy lists digests.

    1. the endorsement is signed by the issuer that it names, which the policy lists;
    2. it is of the right product and recent enough;
    3. it endorses this report's measurement;  4. HOST_DATA is the digest of a listed policy.
    """
    hardware = snp.appraise(report, endorsements, context, subject=subject, report_data=report_data)
    parsed = snp.SnpReport.from_bytes(report[: snp.REPORT_SIZE])
    required = set(Check)
    if security_policy is None and rules.security_policies is not None:
        required.remove(Check.HOST_DATA)
    sheet = Sheet(f"{subject}.aci", required)
    _check_issuer(sheet, uvm, rules, context.now)  # 1
    sheet.record(Check.UVM_FEED, uvm.feed in rules.feeds, uvm.feed, ", ".join(sorted(rules.feeds)))  # 2
    recent = uvm.guest_svn >= rules.minimum_svn
    sheet.record(Check.UVM_SVN, recent, f"{uvm.guest_svn}", f"at least {rules.minimum_svn}")
    sheet.equal(Check.MEASUREMENT, parsed.measurement, uvm.measurement)  # 3
    _check_policy(sheet, parsed.host_data, security_policy, rules)  # 4
    sheet.claims.update(
        uvm_issuer=uvm.issuer,
        uvm_feed=uvm.feed,
        uvm_guest_svn=str(uvm.guest_svn),
        uvm_signing_time=str(uvm.signed_at) if uvm.signed_at else None,
    )
    return hardware, sheet


def _check_issuer(sheet: Sheet, uvm: UvmEndorsement, rules: AciPolicy, now: datetime) -> None:
    signer = uvm.chain[0]
    signed = uvm.message.verified_by(signer.key, PS384) and signs_data(signer)
    sheet.record(Check.UVM_SIGNATURE, signed, "verifies" if signed else "does not verify", "PS384")
    listed = ", ".join(sorted(rules.issuers)) or "none"
    sheet.record(Check.UVM_ISSUER, uvm.issuer in rules.issuers, uvm.issuer, listed)
    did = DidX509.parse(uvm.issuer)
    if did is None:
        sheet.record(Check.UVM_CHAIN, False, uvm.issuer, "a did:x509 by SHA-256 fingerprint and key usage")
        return
    lacking = sorted(set(did.usages) - extended_usages(signer))
    found = f"lacks {', '.join(lacking)}" if lacking else "has every usage"
    sheet.record(Check.UVM_USAGE, not lacking, found, ", ".join(did.usages))
    _check_chain(sheet, uvm, did, now)


def _check_chain(sheet: Sheet, uvm: UvmEndorsement, did: DidX509, now: datetime) -> None:
    authority = tuple(
        item
        for item in uvm.chain[1:]
        if hmac.compare_digest(hashlib.sha256(item.raw).digest(), did.fingerprint)
    )
    path = find(uvm.chain[0], uvm.chain[1:], authority)
    expected = f"a path to the authority {did.fingerprint.hex()}"
    if path is None:
        sheet.record(Check.UVM_CHAIN, False, f"none from {uvm.chain[0].name}", expected)
        return
    wrong = faults(path)
    found = "; ".join(wrong) or " <- ".join(item.name for item in path)
    sheet.record(Check.UVM_CHAIN, not wrong, found, expected)
    # Signers live a year, endorsements longer; the signing time is signed, and minimum_svn bounds age.
    at = min(uvm.signed_at or now, now)
    late = expired(path, at)
    found = f"not valid: {', '.join(late)}" if late else "all valid"
    sheet.record(Check.UVM_VALIDITY, not late, found, f"valid at {at.isoformat()}")


def _check_policy(sheet: Sheet, host_data: bytes, text: bytes | None, rules: AciPolicy) -> None:
    if text is None:
        sheet.unevaluable(Check.HOST_DATA, "no security policy was given", host_data.hex())
    else:
        sheet.equal(Check.HOST_DATA, host_data, hashlib.sha256(text).digest())
    if rules.security_policies is None:
        sheet.record(Check.SECURITY_POLICY, True, host_data.hex(), "any, as the policy spells out")
    else:
        listed = ", ".join(sorted(item.hex() for item in rules.security_policies)) or "none"
        sheet.record(Check.SECURITY_POLICY, host_data in rules.security_policies, host_data.hex(), listed)
