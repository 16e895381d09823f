"""The checks on AWS Nitro Enclaves attestation documents."""

from ..checks import CheckId

_PROCESS = "AWS Nitro Enclaves attestation process"


class NitroCheck(CheckId):
    """Checks on a document, its chain, its time and what it binds."""

    SIGNATURE = (
        "nitro.signature",
        f"{_PROCESS}, 3.2.1; RFC 9052, 4.4",
        "the document's certificate did not sign it with ES384",
        "the document was altered; fetch it again",
    )
    CHAIN = (
        "nitro.chain",
        f"{_PROCESS}, 3.2.3",
        "no path leads from the document's certificate to the pinned root G1",
        "do not trust this document: no Nitro hypervisor signed it",
    )
    VALIDITY = (
        "nitro.validity",
        f"{_PROCESS}, 3.2.3.1",
        "a certificate of the chain was not valid at the document's own time",
        "fetch a fresh document",
    )
    FRESHNESS = (
        "nitro.freshness",
        "policy (max_age, max_clock_skew)",
        "the document is older than max_age, or from the future",
        "fetch a fresh document, or judge an archived one at its own time",
    )
    DEBUG = (
        "nitro.debug",
        "AWS Nitro Enclaves user guide, Using debug mode (PCR0 to PCR2)",
        "PCR0, PCR1 or PCR2 is zero: the enclave runs in debug mode, or was not measured",
        "start the enclave without --debug-mode",
    )
    PCRS = (
        "nitro.pcrs",
        "policy (pcrs)",
        "a register does not hold a value that the policy lists",
        "compare with the measurements that nitro-cli printed for the image you trust",
    )
    NONCE = (
        "nitro.nonce",
        f"{_PROCESS}, 2.2.2 (nonce)",
        "the document answers another nonce, or the verifier had none",
        "fetch a document over your own nonce",
    )
    USER_DATA = (
        "nitro.user-data",
        f"{_PROCESS}, 2.2.2 (user_data)",
        "user_data is not what the verifier expects to be bound",
        "the document belongs to another session or workload",
    )
    PUBLIC_KEY = (
        "nitro.public-key",
        f"{_PROCESS}, 2.2.2 (public_key)",
        "public_key is not the key that the verifier is about to use",
        "the document belongs to another key",
    )
