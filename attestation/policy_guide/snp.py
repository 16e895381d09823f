"""The [snp] section."""

from typing import Any

from .snp_words import FIELDS
from .words import Guide, Key, Writing, fill, hexes, loosening


def _number(name: str, kind: str, meaning: str, value: str, default: str = "0", **more: Any) -> Key:
    weakens = "Without a minimum, old versions with known holes pass."
    return Key(name=name, type=kind, default=default, meaning=meaning, weakens=weakens, value=value, **more)


SNP = Guide(
    title="AMD SEV-SNP",
    roots=("amd",),
    bundle=True,
    simulator=True,
    keys=(
        Key(
            name="products",
            type="array out of Milan, Genoa, Turin",
            default="required",
            meaning="The product lines that are trusted. Genoa covers Bergamo and Siena.",
            weakens="Milan: a software-only extraction of the chip's root secret is published"
            " (arXiv 2605.12990); a report from Milan then proves little. It is taken only if named.",
            value='["Genoa", "Turin"]',
            writing=Writing.ALWAYS,
        ),
        hexes(
            "measurements",
            48,
            "Launch measurements that are trusted.",
            "required, unless allow_any_measurement",
            value=fill("an array of launch measurements; `cloister measure` prints them"),
            writing=Writing.ALWAYS,
        ),
        Key(
            name="minimum_tcb",
            type="table by product line of bl, tee, snp, ucode and, for Turin, fmc; integers 0 to 255",
            default="required for every line in products, unless allow_any_tcb",
            meaning="The least REPORTED, COMMITTED, CURRENT and LAUNCH TCB. See the bulletins below.",
            weakens="Below a bulletin's numbers, the attack it answers works against the guest.",
            value="{ Genoa = { bl = 0, tee = 0, snp = 27, ucode = 86 },"
            " Turin = { fmc = 0, bl = 0, tee = 0, snp = 4, ucode = 81 } }",
            writing=Writing.ALWAYS,
        ),
        hexes(
            "report_data",
            64,
            "REPORT_DATA of reports that come outside a bundle and without a binding from the caller.",
            "none: the caller must bring the binding",
            value='["<64 bytes>"]',
        ),
        hexes(
            "host_data",
            32,
            "HOST_DATA, which the host sets at launch.",
            "32 zero bytes",
            value='["<32 bytes>"]',
        ),
        hexes("family_ids", 16, "FAMILY_ID of the ID block.", "16 zero bytes", value='["<16 bytes>"]'),
        hexes("image_ids", 16, "IMAGE_ID of the ID block.", "16 zero bytes", value='["<16 bytes>"]'),
        hexes(
            "id_key_digests",
            48,
            "Digests of keys that may sign an ID block.",
            "48 zero bytes: no ID block",
            value='["<48 bytes>"]',
        ),
        hexes(
            "author_key_digests",
            48,
            "Digests of author keys.",
            "48 zero bytes: no author key",
            value='["<48 bytes>"]',
        ),
        hexes(
            "report_ids",
            32,
            "REPORT_ID: running guest instances; changes with every launch.",
            "not asked",
            value='["<32 bytes>"]',
        ),
        hexes(
            "migration_report_ids",
            32,
            "REPORT_ID_MA of migration agents; only with allow_migrate_ma.",
            "no migration agent",
            value='["<32 bytes>"]',
            weakens="A migration agent can take the guest's memory elsewhere.",
        ),
        hexes(
            "chip_ids",
            64,
            "CHIP_ID of the chips that are trusted.",
            "any genuine chip",
            weakens="Without it a genuine chip in an attacker's hands is as good as yours:"
            " physical attacks, relays.",
            value=fill("an array of chip identities"),
            writing=Writing.STRICT,
        ),
        Key(
            name="csp_ids",
            type="array of strings",
            default="required with allow_vlek, unless allow_any_csp",
            meaning="Providers whose VLEK is taken.",
            value='["<provider>"]',
        ),
        Key(
            name="vmpls",
            type="array of integers 0 to 3, or 4294967295 for the host",
            default="[0]",
            meaning="Privilege levels that may ask for the report.",
            weakens="Software at a less privileged level than yours could speak for the guest.",
            value="[0]",
        ),
        _number("minimum_guest_svn", "integer, 0 to 4294967295", "Least security version of the guest.", "1"),
        _number(
            "minimum_report_version",
            "integer, 2 to 5",
            "Least version of the report; 3 names the CPU, 5 has the mitigation vectors.",
            "3",
            default="2",
            writing=Writing.STRICT,
        ),
        _number(
            "minimum_guest_abi",
            'string "major.minor"',
            "Least ABI that the guest policy demands.",
            '"1.55"',
            default='"0.0"',
        ),
        _number(
            "minimum_version",
            'string "major.minor"',
            "Least SNP firmware, current and committed.",
            '"1.55"',
            default='"0.0"',
            writing=Writing.STRICT,
        ),
        _number("minimum_build", "integer, 0 to 255", "Least firmware build with minimum_version.", "40"),
        _number(
            "require_launch_mitigations",
            "integer, bits",
            "Bits of LAUNCH_MIT_VECTOR that must be set; report version 5.",
            "7",
        ),
        _number(
            "require_current_mitigations",
            "integer, bits",
            "Bits of CURRENT_MIT_VECTOR that must be set; report version 5.",
            "7",
        ),
        Key(
            name="require_guest",
            type="array out of single-socket, mem-aes-256-xts, rapl-disabled, ciphertext-hiding,"
            " page-swap-disabled",
            default="none",
            meaning="Bits that the guest policy must have set. Ciphertext hiding answers Heracles.",
            value='["ciphertext-hiding", "rapl-disabled"]',
        ),
        Key(
            name="require_platform",
            type="array out of tsme, ecc, rapl-disabled, ciphertext-hiding, iommu-write-safe, tio",
            default="none",
            meaning="Features that the host must have on.",
            value='["ecc"]',
            writing=Writing.STRICT,
        ),
        loosening(
            "allow_any_measurement", "Take any launch measurement.", "Any software may run in the guest."
        ),
        loosening(
            "allow_any_report_data", "Take any REPORT_DATA outside a bundle.", "Nothing binds keys or nonce."
        ),
        loosening(
            "allow_any_host_data", "Take any HOST_DATA.", "The host's launch configuration is not judged."
        ),
        loosening(
            "allow_any_id_block",
            "Take any ID block fields that are not listed.",
            "Anybody may have signed it.",
        ),
        loosening("allow_any_tcb", "Take any TCB.", "Firmware with published attacks passes."),
        loosening("allow_any_csp", "With allow_vlek: take every provider's VLEK.", "Any provider can sign."),
        loosening(
            "allow_debug", "Take a guest under debug.", "The host reads and writes the guest's memory."
        ),
        loosening(
            "allow_migrate_ma",
            "Take a guest that may be migrated by an agent.",
            "The agent joins the trusted code; list it in migration_report_ids.",
        ),
        loosening(
            "allow_smt", "Take a guest or host with SMT on.", "Sibling threads leak (StackWarp, AMD-SB-3027)."
        ),
        loosening(
            "allow_cxl", "Take a guest that may use CXL memory.", "Memory outside the package is in reach."
        ),
        loosening("allow_tio", "Take a host with trusted IO on.", "Devices join the trusted hardware."),
        loosening(
            "allow_missing_alias_check",
            "Take a host that does not confirm ALIAS_CHECK_COMPLETE.",
            "Memory aliases (BadRAM, AMD-SB-3015) are not ruled out.",
        ),
        loosening(
            "allow_unknown_platform_bits",
            "Take PLATFORM_INFO bits that the specification does not name.",
            "What they switch on is not known.",
        ),
        loosening(
            "allow_provisional_firmware",
            "Take firmware that is running and not committed.",
            "The host can go back to the committed one.",
        ),
        loosening(
            "allow_vlek", "Take reports signed by a provider's VLEK.", "It proves the provider, not the chip."
        ),
        loosening(
            "allow_masked_chip_id",
            "Take reports with a hidden CHIP_ID.",
            "The chip cannot be told from another.",
        ),
        loosening("allow_missing_crl", "Do without AMD's revocation list.", "A revoked key passes."),
    ),
    fields=FIELDS,
    notes=(
        "Milan is left out on purpose: the secret that its reports rest on can be extracted in software"
        " (arXiv 2605.12990).",
        "Genoa-X counts microcode on its own: its number for AMD-SB-3027 is 81, so that 86 refuses it.",
        "bl, tee and fmc are 0: no bulletin that we could establish gives a number for them.",
    ),
)
