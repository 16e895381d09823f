"""What sections about quotes and tokens share: registers, nonces, clocks."""

from .words import (
    Explainer,
    Key,
    Writing,
    fill,
    flag,
    loosening,
    only,
    registers,
)

REPLAY = ("Do without your own nonce.", "Old evidence can be replayed.")
NO_NONCE = flag("replayed evidence passes", "evidence must answer the caller's nonce")


def always(name: str, kind: str, default: str, meaning: str, value: str, weakens: str = "") -> Key:
    return Key(
        name=name,
        type=kind,
        default=default,
        meaning=meaning,
        value=value,
        weakens=weakens,
        writing=Writing.ALWAYS,
    )


def skew(whose: str) -> Key:
    return Key(
        name="max_clock_skew",
        type="integer, seconds, 0 to 300",
        default="0",
        meaning=f"How far {whose} clock may differ.",
        weakens="Evidence lives that much longer.",
        value="30",
    )


PCRS = always(
    "pcrs",
    "table by bank (sha256, sha384, sha512) of register index to array of hex",
    "required, unless allow_any_pcrs",
    "Values that registers may hold; every register listed must be quoted.",
    fill("a table of registers, for example { sha256 = { 4 = [...] } }"),
)
ANY_PCRS = loosening("allow_any_pcrs", "Registers may hold anything.", "What booted is not judged.")
BANKS = always(
    "banks",
    "array out of sha256, sha384, sha512",
    "required, unless allow_missing_quote",
    "Register banks that must be quoted.",
    '["sha256"]',
)
UNQUOTED = loosening(
    "allow_missing_quote",
    "Do without a quote.",
    "Registers, boot and freshness are not judged at all; a nonce that you give fails without a quote.",
)
QUOTE_FIELDS: dict[str, Explainer] = {
    "banks": only("banks quoted", empty="banks quoted: none"),
    "pcrs": lambda rules: registers(rules.allowed),
    "allow_missing_quote": flag(
        "no quote is needed: neither boot nor freshness is judged", "a quote is needed"
    ),
    "allow_missing_nonce": NO_NONCE,
}
