"""An auditor's view: a receipt that somebody shows, judged against the evidence of its hour. Offline."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from attestation import Bundle, CheckId, Collateral, Keyset, LoadedModel, Policy, Verdict, Workload, verify
from attestation.binding import sha256
from attestation.verdict import Sheet
from sealing.errors import SignatureRefused
from sealing.receipts import PERIOD, Named, Receipt, Salts, SignedReceipt, commitment, period_nonce


class ReceiptCheck(CheckId):
    """Checks on a receipt: what ties it to a worker's evidence and to the two bodies."""

    KEYSET = (
        "receipt.keyset",
        "docs/spec/receipts.md, 5 (K)",
        "the evidence is of another keyset: another worker, or the same at another time",
        "get the evidence of this receipt's hour and keyset: `cloister receipt evidence`",
    )
    SIGNATURE = (
        "receipt.signature",
        "docs/spec/receipts.md, 5",
        "the receipt key in the evidence did not sign this receipt, or it was altered since",
        "do not rely on it; ask its holder for the file as the worker sent it",
    )
    PERIOD = (
        "receipt.period",
        "docs/spec/receipts.md, 4",
        "the evidence is of another hour, or was made for another purpose",
        "get the evidence of this receipt's hour: `cloister receipt evidence`",
    )
    WORKLOAD = (
        "receipt.workload",
        "docs/spec/receipts.md, 5 (W)",
        "something else was loaded when the evidence was gathered",
        "get the evidence of this receipt's workload: `cloister receipt evidence`",
    )
    LOADED = (
        "receipt.loaded",
        "docs/spec/receipts.md, 5",
        "the model, adapter, policies or consent that the receipt names are not those of the workload",
        "do not rely on it; the worker is at fault",
    )
    REQUEST = (
        "receipt.request",
        "docs/spec/receipts.md, 5",
        "the receipt commits to another request, or these are not its salts",
        "ask the client for the request's body and the salts that came with this receipt",
    )
    RESPONSE = (
        "receipt.response",
        "docs/spec/receipts.md, 5",
        "the receipt commits to another answer, or these are not its salts",
        "ask the client for the answer's body and the salts that came with this receipt",
    )


_ALWAYS = frozenset(
    {
        ReceiptCheck.KEYSET,
        ReceiptCheck.SIGNATURE,
        ReceiptCheck.PERIOD,
        ReceiptCheck.WORKLOAD,
        ReceiptCheck.LOADED,
    }
)


def verify_receipt(
    signed: SignedReceipt,
    evidence: Bundle,
    policy: Policy,
    *,
    collateral: Collateral | None = None,
    salts: Salts | None = None,
    request: bytes | None = None,
    response: bytes | None = None,
) -> Verdict:
    """The verdict on a receipt and on the evidence of its hour, as things stood when it was signed.

    A body that is given must be the one that was committed to; without salts that cannot be judged.
    The evidence answers the hour's nonce, which nobody chose, so its age counts from the hour's beginning
    and may be the whole hour; it holds no one-time key, which the policy may demand of requests alone.
    Raises MalformedEvidence for evidence that does not parse.

    1. the receipt and the evidence belong together;  2. the bodies are those of the receipt;
    3. the evidence holds under the policy, at the receipt's time.
    """
    sheet = Sheet("receipt", _required(request, response))
    _check_origin(sheet, signed, evidence)  # 1
    _check_bodies(sheet, signed.receipt, salts, request, response)  # 2
    now = datetime.fromtimestamp(signed.receipt.time, UTC)
    base = verify(  # 3
        evidence,
        collateral or Collateral(),
        replace(policy, max_nonce_age=timedelta(seconds=PERIOD), require_session=False),
        nonce=period_nonce(signed.receipt.period),
        now=now,
        nonce_age=timedelta(seconds=signed.receipt.time - signed.receipt.period),
    )
    own = Verdict.of([sheet], at=now)
    return replace(
        base,
        results=(*own.results, *base.results),
        required=own.required | base.required,
        claims={**own.claims, **base.claims},
    )


def _required(request: bytes | None, response: bytes | None) -> set[CheckId]:
    bodies = {ReceiptCheck.REQUEST: request, ReceiptCheck.RESPONSE: response}
    return {*_ALWAYS, *(check for check, body in bodies.items() if body is not None)}


def _check_origin(sheet: Sheet, signed: SignedReceipt, evidence: Bundle) -> None:
    receipt = signed.receipt
    sheet.equal(ReceiptCheck.KEYSET, receipt.keyset, sha256(evidence.keyset))
    try:
        signed.check(Keyset.from_bytes(evidence.keyset).receipt_public_key)
    except SignatureRefused as error:
        sheet.record(ReceiptCheck.SIGNATURE, False, str(error), "signed by the receipt key in the evidence")
    else:
        sheet.record(ReceiptCheck.SIGNATURE, True, f"{receipt.path} at {_instant(receipt.time)}")
    sheet.equal(ReceiptCheck.PERIOD, evidence.nonce, period_nonce(receipt.period))
    sheet.equal(ReceiptCheck.WORKLOAD, receipt.workload, sha256(evidence.workload))
    _check_loaded(sheet, receipt, Workload.from_bytes(evidence.workload))
    sheet.claims.update(
        {
            "model": receipt.model.to_json(),
            "adapter": receipt.adapter.to_json() if receipt.adapter else None,
            "prompt_tokens": receipt.prompt_tokens,
            "completion_tokens": receipt.completion_tokens,
            "time": receipt.time,
        }
    )


def _check_loaded(sheet: Sheet, receipt: Receipt, workload: Workload) -> None:
    known = _listed(workload.models, receipt.model) and (
        receipt.adapter is None or _listed(workload.adapters, receipt.adapter)
    )
    same = (receipt.policies, receipt.consent) == (tuple(sorted(set(workload.policies))), workload.consent)
    found = receipt.model.name + (f" with {receipt.adapter.name}" if receipt.adapter else "")
    sheet.record(ReceiptCheck.LOADED, known and same, found, "what the workload lists")


def _listed(loaded: tuple[LoadedModel, ...], named: Named) -> bool:
    return any((item.name, item.root) == (named.name, named.root) for item in loaded)


def _check_bodies(
    sheet: Sheet, receipt: Receipt, salts: Salts | None, request: bytes | None, response: bytes | None
) -> None:
    asked, answered = (salts.request, salts.response) if salts else (None, None)
    _check_body(sheet, ReceiptCheck.REQUEST, request, receipt.request, asked)
    _check_body(sheet, ReceiptCheck.RESPONSE, response, receipt.response, answered)


def _check_body(
    sheet: Sheet, check: CheckId, body: bytes | None, committed: bytes, salt: bytes | None
) -> None:
    if body is None:
        return
    if salt is None:
        sheet.unevaluable(check, "no salts were given", "the salts that came with this receipt")
    else:
        sheet.equal(check, commitment(body, salt), committed)


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
