"""The [tpm] and [nitro] sections."""

from .registers import ANY_PCRS, BANKS, NO_NONCE, PCRS, QUOTE_FIELDS, REPLAY, UNQUOTED, always, skew
from .words import (
    Guide,
    Key,
    Writing,
    allowance,
    ceiling,
    demand,
    fill,
    flag,
    loosening,
    only,
    registers,
    restricted,
)

TPM = Guide(
    title="TPM 2.0 quotes",
    roots=("google", "azure"),
    keys=(
        always(
            "ak_vendors",
            "array out of azure, google",
            "required, unless allow_untrusted_ak",
            "Whose roots an attestation key may chain to.",
            fill('an array of vendors, for example ["google"]'),
        ),
        Key(
            name="ak_keys",
            type="array of 32-byte hex",
            default="any key that chains",
            meaning="SHA-256 of the SubjectPublicKeyInfo of the only attestation keys accepted.",
            weakens="Without it any machine of the vendor's cloud can answer.",
            value=fill("an array of attestation key digests"),
            writing=Writing.STRICT,
        ),
        BANKS,
        PCRS,
        always(
            "event_log",
            '"required" or "ignored"',
            "required",
            "Whether an event log must come along and lead to the registers.",
            '"required"',
            "ignored: only the registers' values are judged.",
        ),
        ANY_PCRS,
        loosening(
            "allow_untrusted_ak",
            "Take a key that chains to no root.",
            "Any software can pretend to be a TPM.",
        ),
        UNQUOTED,
        loosening("allow_missing_nonce", *REPLAY),
    ),
    fields={
        "vendors": only("attestation keys of", empty="attestation keys: of no vendor"),
        "ak_keys": restricted("attestation keys", "attestation keys: any that chains"),
        **QUOTE_FIELDS,
        "require_event_log": demand(
            "an event log must lead to the registers", "an event log is not asked for"
        ),
        "allow_untrusted_ak": flag(
            "a key that chains to no root is taken: any software can pretend to be a TPM",
            "the attestation key must chain to a root",
        ),
    },
)

NITRO = Guide(
    title="AWS Nitro Enclaves",
    roots=("aws",),
    keys=(
        always(
            "max_age",
            "integer, seconds, 1 to 86400",
            "required",
            "The longest time from making the document to judging it.",
            "300",
            "A longer time lets old documents be replayed.",
        ),
        skew("the hypervisor's"),
        always(
            "pcrs",
            "table of register index to array of 48-byte hex",
            "required, unless allow_any_pcrs",
            "Values that registers may hold.",
            fill("a table of registers, for example { 0 = [...] }"),
        ),
        ANY_PCRS,
        loosening("allow_debug", "Take an enclave in debug mode.", "The parent instance reads its console."),
        loosening("allow_missing_nonce", *REPLAY),
    ),
    fields={
        "max_age": ceiling("from making the document to judging it"),
        "max_clock_skew": allowance("the hypervisor's clock may be ahead", "clocks may not differ"),
        "pcrs": registers,
        "allow_debug": flag("an enclave in debug mode passes", "an enclave in debug mode is refused"),
        "allow_missing_nonce": NO_NONCE,
    },
)
