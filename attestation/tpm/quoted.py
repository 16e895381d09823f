"""What a quote proves once its key is known: signature, nonce, registers, log. Shared with Azure's vTPM."""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..verdict import Sheet
from .checks import TpmCheck as Check
from .eventlog import NO_ACTION, EventLog
from .policy import PcrRules
from .public import Signature
from .quote import PcrValues, Quote

FIRMWARE = frozenset(range(8))


@dataclass(frozen=True, slots=True)
class SignedQuote:
    """A quote and its signature, as bytes and parsed."""

    raw: bytes
    quote: Quote
    signature: Signature

    @classmethod
    def from_bytes(cls, message: bytes, signature: bytes) -> "SignedQuote":
        """TPMS_ATTEST and TPMT_SIGNATURE (or bare RSASSA octets); MalformedEvidence otherwise."""
        return cls(message, Quote.from_bytes(message), Signature.from_bytes(signature))


def paired(quotes: Sequence[SignedQuote], key: object) -> tuple[SignedQuote, ...]:
    """The quotes, each with that of their signatures which is its own, where one is."""
    if len(quotes) < 2 or key is None:
        return tuple(quotes)
    spare = [item.signature for item in quotes]
    found: list[SignedQuote] = []
    for item in quotes:
        fits = (signature for signature in spare if signature.verified_by(key, item.raw))
        own = next(fits, item.signature)
        found.append(replace(item, signature=own))
        if own in spare:
            spare.remove(own)
    return tuple(found)


def check_signatures(sheet: Sheet, quotes: Iterable[SignedQuote], key: object) -> None:
    """Record QUOTE_SIGNATURE: `key` signed every quote."""
    outcomes = [item.signature.verified_by(key, item.raw) for item in quotes]
    found = f"{sum(outcomes)} of {len(outcomes)} verify"
    sheet.record(Check.QUOTE_SIGNATURE, bool(outcomes) and all(outcomes), found, "every quote verifies")


def check_nonce(sheet: Sheet, quotes: Iterable[SignedQuote], nonce: bytes | None) -> None:
    """Record QUOTE_NONCE: every quote's extraData is `nonce`; b"" stands for a quote without one."""
    found = [item.quote.extra_data for item in quotes]
    if nonce is None:
        sheet.unevaluable(Check.QUOTE_NONCE, "the verifier gave no nonce", "the verifier's nonce")
        return
    same = [hmac.compare_digest(item, nonce) for item in found]
    listed = ", ".join(sorted({item.hex() or "none" for item in found})) or "no quote"
    sheet.record(Check.QUOTE_NONCE, bool(same) and all(same), listed, nonce.hex() or "none")


def check_registers(
    sheet: Sheet, quotes: Sequence[SignedQuote], values: PcrValues, rules: PcrRules, banks: frozenset[str]
) -> None:
    """Record QUOTE_BANKS, PCR_DIGEST and PCR_VALUES."""
    quoted = frozenset(pair for item in quotes for pair in item.quote.selected)
    present = {bank for bank, _ in quoted}
    sheet.record(Check.QUOTE_BANKS, banks <= present, _listed(present), _listed(banks))
    wrong = [item.quote.pcr_digest.hex() for item in quotes if not _same(item, values)]
    agreed = bool(quotes) and not wrong
    found = "every digest agrees" if agreed else f"another value gives {', '.join(wrong) or 'no quote'}"
    sheet.record(Check.PCR_DIGEST, agreed, found, "the digest of the registers given")
    if rules.allowed is None:
        sheet.record(Check.PCR_VALUES, True, "not compared", "any, as the policy spells out")
    else:
        odd = rules.mismatches(quoted, values)
        sheet.record(Check.PCR_VALUES, not odd, _listed(odd), "every listed register holds a listed value")


def check_event_log(sheet: Sheet, log: EventLog, quotes: Iterable[SignedQuote], values: PcrValues) -> None:
    """Record EVENT_LOG: replayed, it gives the quoted values of every register that it is about.

    Those are the firmware's, 0 to 7, whether or not it touches them, and others that it extends.
    """
    quoted = frozenset(pair for item in quotes for pair in item.quote.selected)
    replays = {bank: log.replay(bank) for bank in log.banks}
    about = {event.pcr for event in log.events if event.kind != NO_ACTION} | FIRMWARE
    compared = {(bank, index) for bank, index in quoted if bank in replays and index in about}
    strong = any(bank != "sha1" for bank, _ in compared)
    wrong = [
        f"{bank}:{index}"
        for bank, index in sorted(compared)
        if values.get(bank, {}).get(index) != replays[bank][index]
    ]
    found = f"{len(compared) - len(wrong)} of {len(compared)} registers agree {_listed(wrong)}"
    sheet.record(Check.EVENT_LOG, strong and not wrong, found, "every register it extends, as quoted")


def _same(item: SignedQuote, values: PcrValues) -> bool:
    algorithm = item.signature.algorithm
    digest = item.quote.digest_of(values, algorithm) if algorithm else None
    return digest is not None and hmac.compare_digest(digest, item.quote.pcr_digest)


def _listed(items: Iterable[str]) -> str:
    return ", ".join(sorted(items)) or "none"
