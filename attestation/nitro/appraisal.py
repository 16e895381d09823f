"""Judging a Nitro document."""

from datetime import datetime

from ..certificates import public_key as load_key
from ..context import Context
from ..cose import ES384
from ..paths import anchors, expired, faults, find
from ..verdict import Sheet
from .checks import NitroCheck as Check
from .document import NitroDocument
from .policy import NitroPolicy

MEASURED = (0, 1, 2)


def appraise(
    document: NitroDocument,
    context: Context,
    rules: NitroPolicy,
    *,
    subject: str,
    nonce: bytes | None,
    user_data: bytes | None = None,
    public_key: bytes | None = None,
) -> Sheet:
    """The sheet of one document.

    `nonce` None makes that check unevaluable; `user_data` and `public_key` are compared if given.

    1. its certificate signed it, and chains to the pinned root, all valid at the document's time;
    2. that time is recent;
    3. it is not a debug enclave, and its registers hold listed values;
    4. it binds what the verifier expects.
    """
    sheet = Sheet(subject, _required(rules, nonce, user_data, public_key))
    key = load_key(document.certificate.spki)
    signed = document.message.verified_by(key, ES384)
    sheet.record(Check.SIGNATURE, signed, "verifies" if signed else "does not verify", "ES384")  # 1
    _check_chain(sheet, document, context)
    _check_freshness(sheet, document, rules, context.now)  # 2
    _check_registers(sheet, document, rules)  # 3
    _check_bound(sheet, document, nonce, user_data, public_key)  # 4
    _claim(sheet, document)
    return sheet


def _required(
    rules: NitroPolicy, nonce: bytes | None, user_data: bytes | None, public_key: bytes | None
) -> set[Check]:
    required = set(Check)
    if nonce is None and rules.allow_missing_nonce:
        required.remove(Check.NONCE)
    if user_data is None:
        required.remove(Check.USER_DATA)
    if public_key is None:
        required.remove(Check.PUBLIC_KEY)
    return required


def _check_chain(sheet: Sheet, document: NitroDocument, context: Context) -> None:
    pinned = anchors(context.policy.roots.der("aws").values())
    path = find(document.certificate, document.chain, pinned)
    expected = "a path to the pinned AWS root"
    if path is None:
        sheet.record(Check.CHAIN, False, f"none from {document.certificate.name}", expected)
        return
    wrong = faults(path)
    found = "; ".join(wrong) or " <- ".join(item.name for item in path)
    sheet.record(Check.CHAIN, not wrong, found, expected)
    late = expired(path, document.timestamp)
    found = f"not valid: {', '.join(late)}" if late else "all valid"
    sheet.record(Check.VALIDITY, not late, found, f"valid at {document.timestamp.isoformat()}")


def _check_freshness(sheet: Sheet, document: NitroDocument, rules: NitroPolicy, now: datetime) -> None:
    age = now - document.timestamp
    expected = f"at most {rules.max_age.total_seconds():.0f} s, and not from the future"
    recent = -rules.max_clock_skew <= age <= rules.max_age
    sheet.record(Check.FRESHNESS, recent, f"{age.total_seconds():.1f} s old", expected)


def _check_registers(sheet: Sheet, document: NitroDocument, rules: NitroPolicy) -> None:
    zero = [str(index) for index in MEASURED if not any(document.pcrs.get(index, b""))]
    expected = "any, as the policy spells out" if rules.allow_debug else "PCR0 to PCR2 not zero"
    found = f"zero: {', '.join(zero)}" if zero else "none is zero"
    sheet.record(Check.DEBUG, rules.allow_debug or not zero, found, expected)
    if rules.pcrs is None:
        sheet.record(Check.PCRS, True, "not compared", "any, as the policy spells out")
        return
    odd = [str(index) for index, allowed in rules.pcrs.items() if document.pcrs.get(index) not in allowed]
    found = f"not listed: {', '.join(odd)}" if odd else "all listed"
    sheet.record(Check.PCRS, not odd, found, "a listed value in every listed register")


def _check_bound(
    sheet: Sheet,
    document: NitroDocument,
    nonce: bytes | None,
    user_data: bytes | None,
    public_key: bytes | None,
) -> None:
    if nonce is None:
        sheet.unevaluable(Check.NONCE, "the verifier gave no nonce", "the verifier's nonce")
    else:
        sheet.equal(Check.NONCE, document.nonce or b"", nonce)
    if user_data is not None:
        sheet.equal(Check.USER_DATA, document.user_data or b"", user_data)
    if public_key is not None:
        sheet.equal(Check.PUBLIC_KEY, document.public_key or b"", public_key)


def _claim(sheet: Sheet, document: NitroDocument) -> None:
    leaf = document.certificate
    sheet.claims.update(
        module_id=document.module_id,
        digest=document.digest,
        timestamp=str(document.timestamp),
        pcrs={str(index): value.hex() for index, value in document.pcrs.items() if any(value)},
        pcr0=document.pcrs.get(0, b"").hex(),
        nonce=_hex(document.nonce),
        user_data=_hex(document.user_data),
        public_key=_hex(document.public_key),
        cose_tagged=document.message.tagged,
        leaf_valid=[str(leaf.not_before), str(leaf.not_after)],
    )


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()
