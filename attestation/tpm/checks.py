"""The checks on TPM 2.0 quotes and the keys that sign them."""

from ..checks import CheckId

_PART1 = "TPM 2.0 Library, Part 1"
_PART2 = "TPM 2.0 Library, Part 2"


class TpmCheck(CheckId):
    """Checks on attestation keys, quotes, registers and event logs."""

    AK_CHAIN = (
        "tpm.ak-chain",
        "TCG EK Credential Profile 2.5; RFC 5280, 6.1",
        "no path leads from the attestation key's certificate to a pinned root",
        "supply the intermediate certificates; check which cloud issued the key",
    )
    AK_VALIDITY = (
        "tpm.ak-validity",
        "RFC 5280, 4.1.2.5",
        "a certificate of the attestation key's chain is expired or not yet valid",
        "renew the certificate, or judge archived evidence at its own time",
    )
    AK_CERTIFICATE = (
        "tpm.ak-certificate",
        "RFC 5280, 4.2.1.3 and 4.2.1.9",
        "the certificate is an authority's, may not sign data, or is not for the key that was given",
        "supply the certificate of the key that signed the quote",
    )
    AK_PINNED = (
        "tpm.ak-pinned",
        "policy (ak_keys)",
        "the attestation key is not one that the policy lists",
        "add the SHA-256 of its SubjectPublicKeyInfo to ak_keys if you trust it",
    )
    AK_ATTRIBUTES = (
        "tpm.ak-attributes",
        f"{_PART1}, 25.1.5; {_PART2}, 8.3",
        "the key is not a restricted signing key of one TPM, so it may sign what the host made up",
        "create the key as a restricted signing key",
    )
    QUOTE_SIGNATURE = (
        "tpm.quote-signature",
        f"{_PART2}, 10.12.8 and 11.3",
        "the attestation key did not sign the quote, or signed it with a weak digest",
        "the quote is altered or from another TPM; fetch it again",
    )
    QUOTE_NONCE = (
        "tpm.quote-nonce",
        f"{_PART2}, 10.12.12 (extraData)",
        "the quote answers another nonce, or the verifier had none",
        "fetch a quote over your own nonce",
    )
    QUOTE_BANKS = (
        "tpm.quote-banks",
        "policy (banks)",
        "a register bank that the policy asks for was not quoted, or no quote was given at all",
        "quote the banks that the policy names",
    )
    PCR_DIGEST = (
        "tpm.pcr-digest",
        f"{_PART2}, 10.12.1 (pcrDigest)",
        "the register values given are not those that were quoted",
        "read the registers together with the quote",
    )
    PCR_VALUES = (
        "tpm.pcr-values",
        "policy (pcrs)",
        "a quoted register does not hold a value that the policy lists",
        "compare with the measurements of the image you trust",
    )
    EVENT_LOG = (
        "tpm.event-log",
        "TCG PC Client Platform Firmware Profile 1.06, 10.4",
        "the event log does not lead to the quoted registers",
        "the log was altered or cut; supply the log of this boot",
    )
