"""The [maa], [azure_vtpm] and [azure_aci] sections."""

from typing import Any

from .dcap import PLATFORM_FIELDS
from .registers import ANY_PCRS, BANKS, NO_NONCE, PCRS, QUOTE_FIELDS, REPLAY, UNQUOTED, always, skew
from .words import (
    Guide,
    Key,
    Statement,
    accepts,
    allowance,
    fill,
    flag,
    floor,
    left_open,
    loosening,
    only,
    weakened,
)

MAA = Guide(
    title="Tokens of Microsoft Azure Attestation",
    roots=("azure",),
    keys=(
        always(
            "issuer",
            "string",
            "required",
            "The https address of the one instance that is trusted.",
            fill("https://... of your instance"),
        ),
        always(
            "keys",
            "array of 32-byte hex",
            "required, unless trust_collateral_keys",
            "RFC 7638 thumbprints of the instance's signing keys.",
            fill("an array of key thumbprints"),
        ),
        always(
            "tees",
            "array out of sevsnpvm, tdxvm",
            "required",
            "TEEs that are trusted.",
            '["sevsnpvm", "tdxvm"]',
        ),
        always(
            "compliance",
            "array of strings",
            "required",
            "Compliance statuses that are taken.",
            '["azure-compliant-cvm"]',
        ),
        always(
            "measurements",
            "array of 48-byte hex",
            "required, unless allow_any_measurement",
            "Launch measurements that are trusted.",
            fill("an array of launch measurements"),
        ),
        always(
            "policy_hashes",
            "array of strings",
            "required, unless allow_any_policy",
            "Hashes of the policies that the instance may have judged by.",
            fill("an array of policy hashes"),
        ),
        Key(
            name="minimum_svn",
            type="table of bootloader, tee, snpfw, microcode, guest; integers",
            default="none",
            meaning="Least security versions.",
            weakens="Without a minimum, old firmware with known holes passes.",
            value="{ snpfw = 27, microcode = 86 }",
        ),
        Key(
            name="tcb_statuses",
            type="array of Intel's TCB statuses, without Revoked and Unsupported",
            default='["UpToDate"]',
            meaning="Statuses of a TDX platform that are taken, where the token tells one.",
            weakens="Any other status means that a published hole is open or a mitigation is not configured.",
            value='["UpToDate"]',
        ),
        skew("the service's"),
        loosening(
            "trust_collateral_keys",
            "Take the key set as supplied.",
            "Whoever supplies the collateral can sign: the key set itself is not signed.",
        ),
        loosening("allow_any_measurement", "Take any launch measurement.", "Any firmware may run."),
        loosening(
            "allow_any_policy", "Take any policy of the instance.", "Its owner may have turned checks off."
        ),
        loosening("allow_debug", "Take a machine that may be debugged.", "The host may read its memory."),
        loosening(
            "allow_migration", "Take a machine that may be migrated.", "The agent joins the trusted code."
        ),
        loosening("allow_no_secure_boot", "Do without secure boot.", "What booted is not known."),
        loosening("allow_missing_nonce", *REPLAY),
    ),
    fields={
        "issuer": lambda value: accepts(f"tokens of {value} alone"),
        "keys": only("signing keys", any_value="whoever supplies the key set can sign tokens"),
        "tees": only("TEEs"),
        "compliance": only("compliance"),
        "measurements": only("launch measurement", any_value="any launch measurement"),
        "policy_hashes": only("policies of the instance", any_value="any policy of the instance"),
        "minimum_svn": lambda value: (
            accepts("least security versions: " + ", ".join(f"{k} {v}" for k, v in sorted(value.items())))
            if value
            else left_open("security versions: no minimum")
        ),
        "tcb_statuses": PLATFORM_FIELDS["tcb_statuses"],
        "max_clock_skew": allowance("seconds that clocks may differ", "clocks may not differ"),
        "allow_debug": flag("a machine that may be debugged passes", "debugging is refused"),
        "allow_migration": flag("a machine that may be migrated passes", "migration is refused"),
        "allow_no_secure_boot": flag("secure boot is not needed", "secure boot is needed"),
        "allow_missing_nonce": NO_NONCE,
    },
)

AZURE_VTPM = Guide(
    title="Azure confidential VMs; the hardware under them has its own section",
    roots=("azure",),
    keys=(
        BANKS,
        PCRS,
        ANY_PCRS,
        UNQUOTED,
        loosening("allow_missing_nonce", *REPLAY),
        loosening("allow_no_secure_boot", "Do without secure boot.", "What booted is not known."),
    ),
    fields={
        **QUOTE_FIELDS,
        "allow_no_secure_boot": flag("secure boot is not needed", "secure boot is needed"),
    },
)


def _security_policies(value: Any) -> Statement:
    if value is None:
        return weakened("any security policy: any container may run, with any privilege")
    return only("security policies")(value)


AZURE_ACI = Guide(
    title="Azure confidential containers; the hardware under them has its own section",
    roots=("amd",),
    keys=(
        always(
            "issuers",
            "array of did:x509 identifiers",
            "required",
            "Who may endorse the utility VM.",
            fill("an array of did:x509:0:sha256:...::eku:..."),
        ),
        always(
            "feeds",
            "array of strings",
            "required",
            "Products that may be endorsed.",
            '["ContainerPlat-AMD-UVM"]',
        ),
        always(
            "minimum_svn",
            "integer, 0 to 4294967295",
            "required",
            "Least security version of the utility VM.",
            fill("the least security version"),
            "0 takes utility VMs with known holes.",
        ),
        always(
            "security_policies",
            "array of 32-byte hex",
            "required, unless allow_any_security_policy",
            "SHA-256 of the security policies that are trusted.",
            fill("an array of security policy digests"),
        ),
        loosening(
            "allow_any_security_policy",
            "Take any security policy.",
            "Any container may run, with any privilege.",
        ),
    ),
    fields={
        "issuers": only("endorsed by"),
        "feeds": only("products endorsed"),
        "minimum_svn": floor("utility VM"),
        "security_policies": _security_policies,
    },
)
