"""Named errors on the command line: one message, one next step, the exit code of its kind."""

import sys

from attestation import (
    AttestationError,
    CollateralUnavailable,
    ExitCode,
    MalformedEvidence,
    PolicyError,
    Rejected,
)
from attestation.ear import EarKeyError, EarRefused
from client.artifacts.errors import (
    DiskFull,
    KeyFileError,
    NotAsSealed,
    OwnerError,
    SourceRefused,
    TargetRefused,
)
from client.azure import AzureUnavailable
from client.azure.keys import VaultRefused
from client.azure.release_policy import NotExpressible
from client.broker.errors import AuditBroken, BrokerError, MasterKeyError, StoreError
from client.errors import (
    ApiFailure,
    BrokenAnswer,
    ClientError,
    InsecureAddress,
    NotAnAddress,
    NoUsableKey,
    ReceiptRefused,
    TermsError,
    Unreachable,
    WorkerBusy,
    WorkerRefused,
)
from enclave.configuration import ConfigurationError
from enclave.gpu.bus.errors import NoBus
from sealing.errors import ConsentRefused

NAMED = (AttestationError, ClientError, ConfigurationError, ConsentRefused, NoBus)

STEPS: list[tuple[type[Exception], int, str]] = [
    (MalformedEvidence, ExitCode.MALFORMED, "this is not evidence; check the file, or the worker's version"),
    (ConfigurationError, ExitCode.USAGE, "see `cloister serve --help`"),
    (
        PolicyError,
        ExitCode.USAGE,
        "mend it by docs/policy.md; `cloister serve --write-policy` makes one",
    ),
    (CollateralUnavailable, ExitCode.UNEVALUABLE, "supply what is missing and verify again"),
    (ConsentRefused, ExitCode.REJECTED, "`cloister consent show FILE` says whose signature is missing"),
    (EarKeyError, ExitCode.USAGE, "`openssl genpkey -algorithm ed25519` makes a signing key"),
    (EarRefused, ExitCode.REJECTED, "verify fresh evidence, or ask the verifier for a new token"),
    (Rejected, ExitCode.REJECTED, "run `cloister verify URL --policy FILE` to see every check"),
    (Unreachable, ExitCode.UNEVALUABLE, "is the worker running there? `cloister serve` starts one"),
    (WorkerBusy, ExitCode.UNEVALUABLE, "try again later; nothing was started"),
    (InsecureAddress, ExitCode.USAGE, "use a policy with real roots for a worker elsewhere"),
    (NotAnAddress, ExitCode.USAGE, "give the address that `cloister serve` printed"),
    (NoUsableKey, ExitCode.USAGE, "change the policy, or use a worker that offers the hybrid"),
    (
        BrokenAnswer,
        ExitCode.INTERNAL,
        "nothing of it may be relied on; ask again, by another way if it recurs",
    ),
    (TermsError, ExitCode.USAGE, "mend the terms or name another file; docs/spec/consent.md, section 4"),
    (ReceiptRefused, ExitCode.REJECTED, "the answer came whole; ask for the receipt again, or do without"),
    (WorkerRefused, ExitCode.INTERNAL, "attest again; check this machine's clock and the worker's version"),
    (NoBus, ExitCode.USAGE, "`cloister bus watch --help` says how a bus is found"),
    (
        KeyFileError,
        ExitCode.USAGE,
        "name another; `owner-key new` makes signing keys, `seal` data keys",
    ),
    (SourceRefused, ExitCode.USAGE, "see `cloister seal --help`; nothing was lost"),
    (TargetRefused, ExitCode.USAGE, "nothing there was touched"),
    (DiskFull, ExitCode.INTERNAL, "make room and run the same command again: it goes on where it stopped"),
    (NotAsSealed, ExitCode.REJECTED, "do not use it; fetch it again from its owner"),
    (OwnerError, ExitCode.USAGE, "see `cloister seal --help`"),
    (AuditBroken, ExitCode.REJECTED, "keep the database as it is; compare with the heads you noted"),
    (MasterKeyError, ExitCode.USAGE, "nothing was released; name the key that the broker was made with"),
    (StoreError, ExitCode.INTERNAL, "nothing was released; check the disk and who else uses the database"),
    (BrokerError, ExitCode.USAGE, "see `cloister broker --help`; nothing was changed"),
    (NotExpressible, ExitCode.USAGE, "docs/azure.md says what a policy for Azure looks like"),
    (AzureUnavailable, ExitCode.USAGE, "install it beside cloister, and run the same command again"),
    (VaultRefused, ExitCode.USAGE, "check the address and `az login`; nothing was changed"),
    (ApiFailure, ExitCode.INTERNAL, "the worker is attested and said no; mend the request"),
    (ClientError, ExitCode.INTERNAL, "run it again; if it recurs, report it with this message"),
    (AttestationError, ExitCode.INTERNAL, "run it again; if it recurs, report it with this message"),
]


def printable(text: str) -> str:
    """`text` without anything that a terminal would obey: it may quote what an operator sent."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def explain(error: Exception) -> int:
    """Print what happened and what to do to stderr; returns the exit code."""
    code, step = next((code, step) for kind, code, step in STEPS if isinstance(error, kind))
    sys.stderr.write(f"cloister: {printable(str(error))}\n")
    sys.stderr.write(f"next: {step}\n")
    if isinstance(error, ApiFailure) and error.status < 500:
        return ExitCode.USAGE
    return error.verdict.exit_code if isinstance(error, Rejected) else code


def explain_file(error: OSError) -> int:
    """As `explain`, of a file or folder that could not be used and that no command says more about."""
    sys.stderr.write(f"cloister: {printable(str(error.filename))}: {error.strerror}\n")
    sys.stderr.write("next: name another, or make it usable for this user\n")
    return ExitCode.USAGE
